"""A thousand and a million API keys: making them, what the service keeps of them, a request's cost, and revoking one.

A request's cost is Envoy's and the credentials process's processor time. "spread": 50,000 keys in turn, more than are
kept in memory; "one": the same key again and again. Revoked: from the end of the command to the first 401 at each of
two gateways, asked every 5 ms.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tests.real.up import Up, children_of, free_port, isthmus

from bench.chain import config
from bench.chain.process import LOAD_CPU, cpu_nanoseconds, pinned, resident_kib, scripted, until_open
from isthmus.consumer.key import ApiKey
from isthmus.consumer.place import FILE
from isthmus.consumer.record import KeyRecord
from isthmus.consumer.store import CredentialStore

SIZES = tuple(int(size) for size in os.environ.get("BENCH_KEYS", "1000,1000000").split(","))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = 3
CONNECTIONS = 16
_SPREAD = 50_000
_REVOKED = 10
_GATEWAYS = ("first", "second")
_CONSUMER = "edge/shop"
_SERVICE = "isthmus.decide.client.server"

_SCRIPT = """\
local keys, number = {}, 0
for line in io.lines("FILE") do keys[#keys + 1] = line end
request = function()
  number = number % #keys + 1
  return wrk.format("GET", "/", {["x-api-key"] = keys[number]})
end
"""


def measure() -> Iterator[tuple[str, str, list[float]]]:
    if shutil.which("wrk") is None or shutil.which("nginx") is None:
        print("  not measured: wrk and nginx are needed", file=sys.stderr)
        return
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            yield from _measured(size, Path(folder))


def _measured(size: int, folder: Path) -> Iterator[tuple[str, str, list[float]]]:
    said = f"{size:,} keys"
    state = folder / "state"
    keys, seconds = _filled(size, state)
    yield f"{said}: put into the store", "s", [seconds]
    yield f"{said}: the store's file", "MB", [(state / FILE).stat().st_size / 1e6]
    port = free_port()
    (folder / "app.conf").write_text(config.nginx_app(port, folder))
    app = subprocess.Popen(pinned(LOAD_CPU, "nginx", "-c", str(folder / "app.conf")), cwd=folder)
    try:
        until_open(port, app)
        started = time.monotonic()
        with Up(folder, {"all.yaml": _manifests(port)}) as up:
            yield f"{said}: from start to ready", "s", [time.monotonic() - started]
            yield from _asked(said, up, keys, folder)
            yield from _revoked(said, up, keys)
    finally:
        app.terminate()
        app.wait()


def _filled(size: int, state: Path) -> tuple[list[ApiKey], float]:
    """The store with ``size`` keys, some of which are given back; making the keys themselves is not counted."""
    now = datetime.now(UTC)
    # A folder becomes a state directory by any command that keeps something there.
    isthmus("token", "--jwks", "--state", str(state))
    (state / FILE).parent.mkdir(mode=0o700)
    made = [ApiKey.make() for _ in range(size)]
    records = [KeyRecord(key.id, _CONSUMER, key.digest, now) for key in made]
    started = time.monotonic()
    store = CredentialStore.at_file(state / FILE)
    store.add_many(records)
    store.close()
    seconds = time.monotonic() - started
    random.Random(1).shuffle(made)
    return made[: _SPREAD + 100], seconds


def _asked(said: str, up: Up, keys: list[ApiKey], folder: Path) -> Iterator[tuple[str, str, list[float]]]:
    service = _service(up)
    envoys = [pid for pid in children_of(up.process.pid) if b"envoy" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    yield f"{said}: the service's memory, ready", "MiB", [resident_kib([service]) / 1024]
    _check(up, keys[0])
    found: dict[str, list[float]] = {"one": [], "spread": []}
    rates: dict[str, list[float]] = {"one": [], "spread": []}
    given = {"one": keys[:1], "spread": keys[:_SPREAD]}
    for number in range(ROUNDS):
        for name in given if number % 2 == 0 else list(given)[::-1]:
            before = cpu_nanoseconds([service, *envoys])
            requests = _load(up, given[name], folder)
            found[name].append((cpu_nanoseconds([service, *envoys]) - before) / requests / 1e3)
            rates[name].append(requests / SECONDS)
    for name in given:
        yield f"{said}, {name}: CPU", "us/request", found[name]
        yield f"{said}, {name}: {CONNECTIONS} connections", "requests/s", rates[name]
    yield f"{said}: the service's memory, {len(given['spread']):,} keys asked", "MiB", [resident_kib([service]) / 1024]


def _load(up: Up, keys: list[ApiKey], folder: Path) -> int:
    file = folder / "keys.txt"
    file.write_text("".join(f"{key.text}\n" for key in keys))
    return scripted(_url(up, _GATEWAYS[0]), _SCRIPT.replace("FILE", str(file)), CONNECTIONS, SECONDS, folder)


def _check(up: Up, key: ApiKey) -> None:
    """Raises RuntimeError unless keys are really looked at."""
    for given, wanted in ((key.text, 200), (ApiKey.make().text, 401), ("", 401)):
        found = _status(_url(up, _GATEWAYS[0]), given)
        if found != wanted:
            raise RuntimeError(f"answered with {found}, not {wanted}")


def _revoked(said: str, up: Up, keys: list[ApiKey]) -> Iterator[tuple[str, str, list[float]]]:
    """The slower of two gateways, of each of some keys that both took a moment before."""
    taken = []
    for key in keys[-_REVOKED:]:
        for name in _GATEWAYS:
            if _status(_url(up, name), key.text) != 200:
                raise RuntimeError("a live key is refused")
        told = isthmus("consumer", "key", "revoke", key.id, "--state", str(up.state))
        since = time.monotonic()
        if told.returncode:
            raise RuntimeError(told.stderr)
        for name in _GATEWAYS:
            while _status(_url(up, name), key.text) != 401:
                time.sleep(0.005)
        taken.append((time.monotonic() - since) * 1e3)
    yield f"{said}: revoked, until it is refused everywhere", "ms", taken


def _status(url: str, key: str) -> int:
    return httpx.get(url, headers={"x-api-key": key} if key else {}, trust_env=False).status_code


def _url(up: Up, name: str) -> str:
    gateway = next(one for one in up.ready["gateways"] if one["name"] == name)
    return f"http://{gateway['listeners'][0]['address']}/"


def _service(up: Up) -> int:
    for pid in children_of(up.process.pid):
        if _SERVICE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    raise RuntimeError("nobody looks at keys")


def _manifests(port: int) -> str:
    gateways = "".join(
        f"""\
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: edge}}
spec:
  selector: {{app: {name}}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [{name}]
  http: [{{route: [{{destination: {{host: app.example.com}}}}]}}]
"""
        for name in _GATEWAYS
    )
    return f"""\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: edge}}
spec:
  hosts: [app.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  location: MESH_EXTERNAL
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {{name: shop, namespace: edge}}
---
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {{name: keys, namespace: edge}}
spec: {{methods: [{{apiKey: {{headers: [x-api-key]}}}}]}}
{gateways}"""
