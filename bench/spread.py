"""A policy's change to its enforcement on ten proxies at once: the last of them counts."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.real.backend import Backend
from tests.real.manifests import service, workload_entry
from tests.real.up import Up

PROXIES = 10
EDITS = 100
EVERY_SECONDS = 0.01
"""Between two looks at one proxy: what is measured is late by up to this much, and no more is asked of the machine."""
_DENY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: bench}
spec:
  action: DENY
  rules: [{to: [{operation: {paths: [/PATH]}}]}]
"""


def measure() -> Iterator[tuple[str, str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder, Backend() as backend:
        entries = [workload_entry(f"web-{number}", "bench", "web", backend.port) for number in range(PROXIES)]
        manifests = {"web.yaml": "---\n".join((service("web", "bench"), *entries)), "deny.yaml": _DENY}
        with Up(Path(folder), manifests) as up:
            inbound = [next(iter(workload["inbound"].values())) for workload in up.ready["workloads"]]
            assert len(inbound) == PROXIES
            first, last = asyncio.run(_edits(up, inbound))
    for what, rounds in ((f"first of {PROXIES} proxies", first), (f"last of {PROXIES} proxies", last)):
        yield f"policy at the {what}, {EDITS} edits", "ms", rounds
        yield f"policy at the {what}, p99", "ms", [statistics.quantiles(rounds, n=100)[98]]


async def _edits(up: Up, inbound: list[str]) -> tuple[list[float], list[float]]:
    probes = [await _Probe.open(address) for address in inbound]
    first, last = [], []
    for number in range(EDITS):
        path = f"/p{number}"
        started = time.monotonic()
        await asyncio.to_thread(up.write, "deny.yaml", _DENY.replace("/PATH", path))
        seen = await asyncio.gather(*(probe.until_denied(path) for probe in probes))
        first.append((min(seen) - started) * 1e3)
        last.append((max(seen) - started) * 1e3)
    for probe in probes:
        probe.close()
    return first, last


class _Probe:
    """One standing connection to one sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> _Probe:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def until_denied(self, path: str) -> float:
        """When the answer was first 403."""
        while await self._status(path) != 403:
            await asyncio.sleep(EVERY_SECONDS)
        return time.monotonic()

    async def _status(self, path: str) -> int:
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: web.bench\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.splitlines() if line.startswith("content-length:"))
        await self._reader.readexactly(int(length.partition(":")[2]))
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        self._writer.close()
