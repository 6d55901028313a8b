"""The API over real sockets, with a control plane that says what the test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette

from isthmus.errors import EnvoyFailed, Refused, SpiffeIdInvalid
from isthmus.latest import Latest


@dataclass
class FakePlane:
    """Implements ``api.server.ControlPlane``."""

    in_sync: bool = True
    plan: Latest[dict[str, Any]] = field(default_factory=lambda: Latest({"version": 1}))
    configs: dict[str, Any] = field(default_factory=lambda: {"shop/orders": {"proxy": "sidecar~shop~orders"}})
    guests: list[tuple[str, str]] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    held: asyncio.Event | None = None
    """If set, an environment is only told after it."""
    broken: bool = False

    def ready(self) -> tuple[bool, dict[str, Any]]:
        return self.in_sync, {"pid": 4711} if self.in_sync else {"not_in_sync": ["sidecar~shop~orders"], "refusals": []}

    async def plan_after(self, version: int) -> dict[str, Any]:
        async for plan in self.plan:
            if plan["version"] != version:
                return plan
        raise AssertionError("a Latest never ends")

    def join_token(self, node: str) -> str:
        if "/" in node:
            raise SpiffeIdInvalid("a segment of a path has no slash")
        return f"token of {node}"

    def programs_listen(self, proxies: list[str]) -> None:
        self.asked.append(proxies)

    def proxies(self) -> list[dict[str, Any]]:
        return [{"id": "sidecar~shop~orders"}]

    def proxy_config(self, proxy: str) -> dict[str, Any] | None:
        self.asked.append(proxy)
        return self.configs.get(proxy)

    def metrics(self) -> str:
        return "pilot_xds 1.0\n"

    async def proxy_metrics(self, proxy: str) -> str | None:
        if proxy == "sidecar~shop~ended":
            raise EnvoyFailed("Envoy's admin interface does not answer")
        return "istio_requests_total{} 1\n" if proxy == "sidecar~shop~orders" else None

    def metric_targets(self) -> list[dict[str, Any]]:
        return [{"targets": ["127.0.0.1:1"], "labels": {}}]

    def diagnostics(self) -> list[dict[str, Any]]:
        return [{"code": "IST0101"}]

    def add_workload(
        self, namespace: str, service_account: str, labels: dict[str, str], network: str, pid: int | None = None
    ) -> str:
        if namespace == "Shop":
            raise Refused('"Shop" is not a namespace')
        self.asked.append((namespace, service_account, labels, network))
        self.guests.append((namespace, "run-1"))
        return "run-1"

    def hold_workload(self, namespace: str, name: str, pid: int | None = None) -> None:
        if name != "run-1":
            raise Refused(f'there is no "{name}"')
        self.guests.append((namespace, name))

    async def workload_environment(self, namespace: str, name: str) -> dict[str, str]:
        if self.held is not None:
            await self.held.wait()
        if self.broken:
            raise RuntimeError("no environment")
        return {"http_proxy": "http://w:x@127.0.0.1:1"}

    def remove_workload(self, namespace: str, name: str) -> None:
        self.guests.remove((namespace, name))


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[Path]:
    """``app`` on a Unix socket, whose path is given."""
    with TemporaryDirectory(prefix="isthmus-test-", dir="/tmp") as folder:
        path = Path(folder) / "api.sock"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield path
        finally:
            server.should_exit = True
            await running
            listening.close()


async def eventually(holds: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)
