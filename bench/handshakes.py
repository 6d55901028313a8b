"""Bad TLS handshakes beside good traffic: what good clients lose, without and with the back-off.

Bad clients show a certificate of an unknown CA, from one address, at half of the rate that the generator reaches alone.
A good request is a new connection with a certificate, from another address, twenty a second.
"""

from __future__ import annotations

import multiprocessing
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.real.backend import Backend
from tests.real.handshaking import context, shakes_hands
from tests.real.pki import Authority
from tests.real.traffic import dump, gateway, manifest, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, children_of, eventually

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
HOST, GOOD, BAD = "edge.example.com", "127.0.3.1", "127.0.3.2"
WORKERS = 2
_SECONDS = 6.0
_SETTLE = 3.0
_A_SECOND = 20
Place = tuple[str, int]


def measure() -> Iterator[tuple[str, str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder, Backend() as backend:
        where, servers, clients = Path(folder), Authority("servers"), Authority("clients")
        good = context(servers.pem, clients.issue("client.example.com"), where)
        Authority("strangers").issue("client.example.com").written(where, "bad")
        (where / "roots.pem").write_bytes(servers.pem)
        with Up(where, {"all.yaml": _manifests(servers, clients, backend.port)}) as up:
            open_, guarded = up.gateway(443, "open"), up.gateway(443, "guarded")
            for place in (open_, guarded):
                eventually(lambda place=place: shakes_hands(place, good, HOST, GOOD), 20)
            most = _bad(open_, where, 0.0, _SECONDS)()
            rate = most / _SECONDS / 2
            found: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for name, place, pace in (
                    ("quiet", open_, 0.0),
                    ("no back-off", open_, rate),
                    ("back-off", guarded, rate),
                ):
                    for what, value in _round(up, place, good, where, pace).items():
                        found.setdefault(f"{name}: {what}", []).append(value)
                    time.sleep(_SETTLE)
    yield "bad handshakes, half of the most", "a second", [rate]
    for name, values in found.items():
        yield name.partition("|")[0], name.partition("|")[2], values


def _manifests(servers: Authority, clients: Authority, port: int) -> str:
    own = servers.issue(HOST)
    tls = {"mode": "MUTUAL", "credentialName": "edge"}
    policy = manifest("ClientTrafficPolicy", "guarded", {
        "targetRefs": [{"kind": "Gateway", "name": "guarded"}], "connection": {"failedHandshakes": {}},
    })  # fmt: skip
    return dump(
        secret(
            "edge", type="kubernetes.io/tls", data={"tls.crt": own.chain, "tls.key": own.key, "ca.crt": clients.pem}
        ),
        *(gateway(name, server(443, HOST, protocol="HTTPS", tls=tls)) for name in ("open", "guarded")),
        {**policy, "apiVersion": "isthmus.dev/v1alpha1"},
        routes("edge", [HOST], {"route": [to("back")]}, gateways=["open", "guarded"]),
        service("back"),
        workload("back-1", port, {"app": "back"}),
    )


def _round(up: Up, place: Place, good: ssl.SSLContext, folder: Path, rate: float) -> dict[str, float]:
    bad = _bad(place, folder, rate, _SETTLE + _SECONDS) if rate else None
    # The first of them are what the back-off counts.
    time.sleep(_SETTLE)
    before, began = _cpu(up), time.monotonic()
    took, failed = _good(place, good)
    used = (_cpu(up) - before) / (time.monotonic() - began)
    reached = bad() / (_SETTLE + _SECONDS) if bad is not None else 0.0
    ordered = sorted(took)
    return {
        "good, median|ms": statistics.median(ordered),
        "good, p99|ms": ordered[int(len(ordered) * 0.99)],
        "good, failed|of all": float(failed),
        "processor, everything that runs|cores": used,
        "bad connections tried|a second": reached,
    }


def _good(place: Place, by: ssl.SSLContext) -> tuple[list[float], int]:
    """Milliseconds of each, from when it was due: who waits for a free thread has waited, too."""
    began, count = time.monotonic(), int(_SECONDS * _A_SECOND)

    def one(number: int) -> tuple[float, bool]:
        due = began + number / _A_SECOND
        time.sleep(max(0.0, due - time.monotonic()))
        answered = shakes_hands(place, by, HOST, GOOD)
        return (time.monotonic() - due) * 1e3, answered

    with ThreadPoolExecutor(16) as threads:
        done = list(threads.map(one, range(count)))
    return [took for took, _ in done], sum(not answered for _, answered in done)


def _bad(place: Place, folder: Path, rate: float, seconds: float) -> Callable[[], int]:
    """Begin; call what is returned for how many were tried, when they are done. ``rate`` 0: as fast as it goes."""
    spawning = multiprocessing.get_context("spawn")
    counted = spawning.Queue()
    arguments = (place, str(folder), rate / WORKERS, seconds, counted)
    workers = [spawning.Process(target=_fail, args=arguments) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()

    def total() -> int:
        tried: int = sum(counted.get(timeout=seconds + 60) for _ in workers)
        for worker in workers:
            worker.join()
        return tried

    return total


def _fail(place: Place, folder: str, rate: float, seconds: float, counted: multiprocessing.Queue[int]) -> None:
    by = ssl.create_default_context(cafile=f"{folder}/roots.pem")
    by.check_hostname = False
    by.load_cert_chain(f"{folder}/bad.pem")
    began, tried = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        if rate and tried > (now - began) * rate:
            time.sleep(0.001)
            continue
        shakes_hands(place, by, HOST, BAD)
        tried += 1
    counted.put(tried)


def _cpu(up: Up) -> float:
    """Seconds of processor of everything that ``isthmus up`` runs."""
    total = 0
    for pid in children_of(up.process.pid):
        try:
            fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
