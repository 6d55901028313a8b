"""Ten thousand hosts on one port of one gateway, each with its own certificate: on demand, and a filter chain each."""

from __future__ import annotations

import os
import random
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.real.backend import Backend
from tests.real.pki import Authority, ec_key
from tests.real.traffic import dump, gateway, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, children_of

SIZES = tuple(int(size) for size in os.environ.get("BENCH_TENANTS", "100,1000,10000").split(","))
ALONE = tuple(int(size) for size in os.environ.get("BENCH_TENANTS_ALONE", "100,1000").split(","))
"""With a chain each, which ten thousand of are more than a laptop has memory for."""
_ASKED = 300
_EACH = 500
"""Servers of one Gateway; a document holds 100,000 values at most."""
_READY_SECONDS = 900.0


def measure() -> Iterator[tuple[str, str, list[float]]]:
    for count in SIZES:
        yield from _measured(count, "on demand", {})
    for count in ALONE:
        # Whoever wants sessions resumed has a certificate from the beginning, and so a chain of its own.
        yield from _measured(count, "a chain each", {"session": {"resumption": {"stateless": {}}}})


def _measured(count: int, how: str, tls: dict[str, object]) -> Iterator[tuple[str, str, list[float]]]:
    authority, shared = Authority("tenants"), ec_key()
    named = [f"t{number:05}.example.com" for number in range(count)]
    gateways = [f"edge-{first}" for first in range(0, count, _EACH)]
    parts = [
        gateway(name, *map(_server, named[number * _EACH :][:_EACH]), selector={"app": "edge"})
        for number, name in enumerate(gateways)
    ]
    if tls:
        spec = {"targetRefs": [{"kind": "Gateway", "name": name} for name in gateways], "tls": tls}
        about = {"name": "edge", "namespace": "shop"}
        parts.append(
            {"apiVersion": "isthmus.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": about, "spec": spec}
        )
    for name in named:
        leaf = authority.issue(name, key=shared)
        parts.append(secret(name, type="kubernetes.io/tls", data={"tls.crt": leaf.chain, "tls.key": leaf.key}))
    trust = ssl.create_default_context(cadata=authority.pem.decode())
    with tempfile.TemporaryDirectory() as folder, Backend() as backend:
        parts += [
            routes("all", ["*.example.com"], {"route": [to("web")]}, gateways=gateways),
            service("web"),
            workload("web", backend.port, {"app": "web"}),
        ]
        manifests = {"all.yaml": dump(*parts)}
        started = time.monotonic()
        with Up(Path(folder), manifests, ready_seconds=_READY_SECONDS) as up:
            said = f"{count} hosts, {how}"
            yield f"{said}: from start to ready", "s", [time.monotonic() - started]
            envoy, agent = _gateway_process(up), _agent_process(up)
            yield f"{said}: configuration of the gateway's listeners", "kB", [_listener_bytes(up) / 1e3]
            yield f"{said}: Envoy's memory, ready", "MB", [_resident(envoy)]
            asked = random.Random(1).sample(named, min(_ASKED, count))
            first = [_handshake(up, name, trust) for name in asked]
            second = [_handshake(up, name, trust) for name in asked]
            yield f"{said}: first handshake of a host", "ms", first
            yield f"{said}: p99 of the first", "ms", [statistics.quantiles(first, n=100)[98]]
            yield f"{said}: second handshake of a host", "ms", second
            yield f"{said}: Envoy's memory, {len(asked)} hosts asked for", "MB", [_resident(envoy)]
            for name in named:
                _handshake(up, name, trust)
            yield f"{said}: Envoy's memory, all hosts asked for", "MB", [_resident(envoy)]
            yield f"{said}: the agent's memory, all hosts asked for", "MB", [_resident(agent)]


def _server(name: str) -> dict[str, object]:
    return server(
        443, name, protocol="HTTPS", name=name.partition(".")[0], tls={"mode": "SIMPLE", "credentialName": name}
    )


def _handshake(up: Up, name: str, trust: ssl.SSLContext) -> float:
    """Milliseconds from the connection on; the certificate is verified."""
    started = time.perf_counter()
    with socket.create_connection(up.gateway(443), 30) as raw, trust.wrap_socket(raw, server_hostname=name):
        return (time.perf_counter() - started) * 1e3


def _listener_bytes(up: Up) -> int:
    """Of the listeners as Envoy tells them, in JSON."""
    transport = httpx.HTTPTransport(uds=up.ready["gateways"][0]["admin_socket"])
    with httpx.Client(transport=transport, timeout=120) as admin:
        return len(admin.get("http://admin/config_dump?resource=dynamic_listeners").content)


def _gateway_process(up: Up) -> int:
    found = [pid for pid in children_of(up.process.pid) if "envoy" in _command(pid)[0]]
    # The sidecar has one worker, the gateway two.
    return next(pid for pid in found if _command(pid)[_command(pid).index("--concurrency") + 1] == "2")


def _agent_process(up: Up) -> int:
    return next(pid for pid in children_of(up.process.pid) if "agent" in _command(pid))


def _command(pid: int) -> list[str]:
    return (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")


def _resident(pid: int) -> float:
    """MB."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1e3
