"""A thousand proxies of a thousand services: cold connect, one change to all confirmed, memory, bytes.

The proxies are simulated (``bench/simulated_proxy.py``) and share the machine with the control plane they measure, so
every figure holds for both together; ``cpu`` is the control plane's alone. Without TLS first, then with mutual TLS,
where a thousand handshakes of the clients cost as much as the server's.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.simulated_proxy import Seen, SimulatedProxy, until
from isthmus.identity.authority import Authority, control_plane_dns_name
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create
from isthmus.identity.validate import read_csr
from isthmus.model.identity import CONTROL_PLANE_SERVICE_ACCOUNT
from isthmus.state import StateDir
from isthmus.xds.snapshot import ENDPOINT

SERVICES = int(os.environ.get("BENCH_SERVICES", "1000"))
PROXIES = int(os.environ.get("BENCH_PROXIES", "1000"))
NAMESPACES = 20
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
_PATIENCE = 600.0

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: ns{k}}}
spec: {{selector: {{app: s{n}}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{n}, namespace: ns{k}}}
spec: {{hosts: [s{n}], http: [{{timeout: {timeout}s, route: [{{destination: {{host: s{n}}}}}]}}]}}
---
"""
WORKLOAD = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w{n}, namespace: ns{k}}}
spec:
  address: {address}
  serviceAccount: s{k}
  labels: {{app: s{n}, security.istio.io/tlsMode: istio}}
  weight: {weight}
---
"""
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: mesh, namespace: istio-system}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: ["/{path}"]}}}}]}}]}}
"""


def manifest(n: int, *, timeout: int = 10, weight: int = 1) -> str:
    """One service, its routes, its workload; as many workloads have a sidecar here as there are to be proxies."""
    k = n % NAMESPACES
    service = SERVICE.format(n=n, k=k, timeout=timeout)
    address = "127.0.0.1" if n < PROXIES else f"10.0.{n // 250}.{n % 250 + 1}"
    return service + WORKLOAD.format(n=n, k=k, address=address, weight=weight)


class ControlPlane:
    """The child process, by lines of JSON."""

    def __init__(self, folder: Path, state: Path | None) -> None:
        arguments = [str(folder)] + ([str(state)] if state is not None else [])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.scale_control_plane", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the control plane ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return await asyncio.to_thread(self._read)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


Figures = dict[str, tuple[str, list[float]]]


def measure() -> Iterator[tuple[str, str, list[float]]]:
    print(f"load averages before: {os.getloadavg()}", file=sys.stderr)
    for secured in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            figures = asyncio.run(_measure(Path(folder), secured))
        how = "mutual TLS" if secured else "no TLS"
        for name, (unit, rounds) in figures.items():
            yield f"{name}, {PROXIES} proxies x {SERVICES} services, {how}", unit, rounds
    yield "load average of the last minute, at the end", "", [os.getloadavg()[0]]


async def _measure(folder: Path, secured: bool) -> Figures:
    manifests, state = folder / "manifests", folder / "state"
    manifests.mkdir()
    for n in range(SERVICES):
        (manifests / f"s{n:05}.yaml").write_text(manifest(n))
    (manifests / "policy.yaml").write_text(POLICY.format(path="never"))
    credentials = _credentials(StateDir.at(state)) if secured else {}
    plane = ControlPlane(manifests, state if secured else None)
    try:
        assert not plane.started["errors"], plane.started["errors"]
        return await _with_proxies(plane, credentials)
    finally:
        plane.end()


async def _with_proxies(plane: ControlPlane, credentials: dict[str, Any]) -> Figures:
    figures: Figures = {"start: load, compile, translate": ("s", [plane.started["start_s"]])}
    before = await plane.ask(do="rest")
    seen = Seen()
    proxies = [SimulatedProxy(proxy, seen) for proxy in plane.started["proxies"]]
    own = SpiffeId.workload("cluster.local", "istio-system", CONTROL_PLANE_SERVICE_ACCOUNT)
    name = control_plane_dns_name(own) if credentials else ""
    target = f"127.0.0.1:{plane.started['port']}"
    started = time.monotonic()
    running = [
        asyncio.create_task(proxy.run(target, credentials.get(proxy.id.split("~")[1]), name)) for proxy in proxies
    ]
    try:
        everywhere = [proxy for proxy in proxies if proxy.complete_at is None]
        await until(lambda: _all_complete(everywhere) or any(task.done() for task in running), _PATIENCE)
        for task in running:
            if task.done():
                task.result()
        last = max(proxy.complete_at or 0.0 for proxy in proxies)
        settled = await plane.ask(do="settle", proxies=len(proxies))
        figures["cold connect, to the last proxy's last confirmation"] = ("s", [last - started])
        figures["cold connect, until the control plane knows"] = ("s", [max(settled["at"], last) - started])
        after = await plane.ask(do="rest")
        figures["cold connect, cpu of the control plane"] = ("s", [after["cpu_s"] - before["cpu_s"]])
        await asyncio.sleep(1)
        rest = await plane.ask(do="rest")
        each = {what: (rest[what] - before[what]) * 1.024 / len(proxies) for what in ("rss_kib", "trimmed_kib")}
        figures["memory a connected proxy"] = ("kB", [each["rss_kib"]])
        figures["memory a connected proxy, what is free given back to the system"] = ("kB", [each["trimmed_kib"]])
        figures["memory before any connects"] = ("MB", [before["rss_kib"] * 1.024 / 1000])
        full = [float(sum(proxy.received.values())) for proxy in proxies]
        figures["full state of a proxy"] = ("kB", [sum(full) / len(full) / 1000])
        await _edits(plane, proxies, figures, sum(full) / len(full))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return figures


def _all_complete(waiting: list[SimulatedProxy]) -> bool:
    """Whether none is left in ``waiting``; those that are complete are taken out."""
    waiting[:] = [proxy for proxy in waiting if proxy.complete_at is None]
    return not waiting


async def _edits(plane: ControlPlane, proxies: list[SimulatedProxy], figures: Figures, full: float) -> None:
    edits = {
        "one endpoint": lambda n: (f"s{n:05}.yaml", manifest(n, weight=n + 2)),
        "one route": lambda n: (f"s{n:05}.yaml", manifest(n, timeout=n + 20)),
        "a policy of the whole mesh": lambda n: ("policy.yaml", POLICY.format(path=f"never-{n}")),
    }
    for what, edit in edits.items():
        found: list[dict[str, Any]] = []
        for n in range(ROUNDS):
            before = sum(sum(proxy.received.values()) for proxy in proxies)
            name, text = edit(n)
            found.append(await plane.ask(do="edit", name=name, text=text, proxies=len(proxies)))
            after = sum(sum(proxy.received.values()) for proxy in proxies)
            found[-1]["share"] = 100 * (after - before) / len(proxies) / full
        figures[f"{what}: edit to published"] = ("ms", [1e3 * each["publish_s"] for each in found])
        figures[f"{what}: edit to all confirmed"] = ("ms", [1e3 * each["acked_s"] for each in found])
        figures[f"{what}: cpu of the control plane"] = ("ms", [1e3 * each["cpu_s"] for each in found])
        figures[f"{what}: bytes of the full state"] = ("%", [each["share"] for each in found])
    assert all(ENDPOINT in proxy.acked_at for proxy in proxies)


def _credentials(state: StateDir) -> dict[str, Any]:
    """A client's certificate for each namespace's service account, of the control plane's own authority."""
    now = datetime.now(UTC)
    authority: Authority = load_or_create(state, "cluster.local", now, "istio-system")
    return {f"ns{k}": _credential(authority, k, now) for k in range(NAMESPACES)}


def _credential(authority: Authority, k: int, now: datetime) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = read_csr(request.public_bytes(serialization.Encoding.PEM))
    svid = authority.issue(csr, SpiffeId.workload("cluster.local", f"ns{k}", f"s{k}"), timedelta(hours=12), now)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(encoding, form, serialization.NoEncryption())
    roots = "".join(authority.bundle.roots).encode()
    return grpc.ssl_channel_credentials(roots, pem, "".join(svid.chain).encode())
