"""The Envoys and local programs of one plan: what is missing is started, what is no longer planned is drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from isthmus.errors import EnvoyFailed
from isthmus.model.proxy import Role
from isthmus.proxy.envoy import DRAIN, GATEWAY_CONCURRENCY, SIDECAR_CONCURRENCY, EnvoyProgram, socket_there
from isthmus.proxy.keep import Kept, Say, Start, Stop
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedProxy, PlannedWorkload
from isthmus.proxy.workload import LocalProgram, Sink
from isthmus.xds.bootstrap import BootstrapSettings

_SOCKET_WAIT = timedelta(seconds=3)
_SIDECAR_WAIT = timedelta(seconds=15)
"""A program starts when its sidecar takes traffic, or after this: it may have work that needs no mesh."""


@dataclass(frozen=True, slots=True)
class CrewSettings:
    """``output`` takes the lines of local programs; None: each to its file under ``log/``."""

    folders: Folders
    output: Sink | None = None
    gateway_concurrency: int = GATEWAY_CONCURRENCY
    drain: timedelta = DRAIN


class Crew:
    """Runs what the last plan says. ``changed`` is called when a process begins or ends."""

    def __init__(self, settings: CrewSettings, say: Say, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._say = say
        self._changed = changed
        self._envoys: dict[str, tuple[EnvoyProgram, Kept]] = {}
        self._workloads: dict[str, tuple[PlannedWorkload, LocalProgram, Kept]] = {}
        self._leaving: dict[str, tuple[Kept, asyncio.Task[None]]] = {}

    @property
    def pids(self) -> Mapping[str, int]:
        """What runs now: by proxy id, or ``namespace/name`` of a local program."""
        return {kept.name: kept.child.pid for kept in self._all() if kept.child is not None}

    def follow(self, plan: Plan) -> None:
        """Bring what runs to ``plan``; does not wait for it. An Envoy whose bootstrap changed is replaced."""
        envoys = {proxy.id: self._envoy(plan, proxy) for proxy in plan.proxies}
        workloads = {f"{one.namespace}/{one.name}": one for one in plan.workloads}
        for name in [name for name, (planned, _, _) in self._workloads.items() if workloads.get(name) != planned]:
            self._leave(self._workloads.pop(name)[2])
        for name in [name for name, (envoy, _) in self._envoys.items() if envoys.get(name) != envoy]:
            self._leave(self._envoys.pop(name)[1])
        for name, envoy in envoys.items():
            if name not in self._envoys:
                kept = self._begin(name, envoy.start, envoy.stop, self._before_envoy(envoy))
                self._envoys[name] = (envoy, kept)
        for name, workload in workloads.items():
            if name not in self._workloads:
                program = LocalProgram(workload, self._settings.folders, self._settings.output)
                kept = self._begin(name, program.start, program.stop, self._before_workload(workload))
                self._workloads[name] = (workload, program, kept)

    async def silent(self) -> tuple[str, ...]:
        """The local programs that do not listen yet where they should; without those that have failed already."""
        starting = {name: program for name, (_, program, kept) in self._workloads.items() if not kept.failed}
        return tuple([name for name, program in starting.items() if not await program.listens()])

    async def end(self) -> None:
        """Local programs first, so that their last requests still find a proxy; then drain the Envoys."""
        await asyncio.gather(*(kept.stop() for _, _, kept in self._workloads.values()))
        await asyncio.gather(*(kept.stop() for _, kept in self._envoys.values()))
        await asyncio.gather(*(task for _, task in list(self._leaving.values())))

    def kill(self) -> None:
        """End everything at once."""
        for kept in self._all():
            kept.kill()

    def _all(self) -> Iterable[Kept]:
        yield from (kept for kept, _ in self._leaving.values())
        yield from (kept for _, kept in self._envoys.values())
        yield from (kept for _, _, kept in self._workloads.values())

    def _begin(self, name: str, start: Start, stop: Stop, before: Awaitable[object]) -> Kept:
        kept = Kept(name, start, stop, self._say, changed=self._changed)
        kept.begin(after=self._after_leaving(name, before))
        return kept

    async def _after_leaving(self, name: str, before: Awaitable[object]) -> None:
        """The one of the same name that is still draining holds the ports."""
        if name in self._leaving:
            await asyncio.shield(self._leaving[name][1])
        await before

    def _leave(self, kept: Kept) -> None:
        earlier = self._leaving.get(kept.name)

        async def leave() -> None:
            if earlier is not None:
                await earlier[1]
            await kept.stop()

        task = asyncio.create_task(leave())
        self._leaving[kept.name] = (kept, task)

        def left(done: asyncio.Task[None]) -> None:
            if kept.name in self._leaving and self._leaving[kept.name][1] is done:
                del self._leaving[kept.name]

        task.add_done_callback(left)

    def _envoy(self, plan: Plan, proxy: PlannedProxy) -> EnvoyProgram:
        folders = self._settings.folders
        settings = BootstrapSettings(
            proxy_id=proxy.id,
            name=proxy.name,
            namespace=proxy.namespace,
            admin_socket=str(folders.admin_socket(proxy.id)),
            sds_socket=str(folders.sds_socket(proxy.id)),
            ads=plan.ads,
            control_plane_id=plan.control_plane_id,
        )
        gateway = proxy.role is Role.GATEWAY
        concurrency = self._settings.gateway_concurrency if gateway else SIDECAR_CONCURRENCY
        return EnvoyProgram(settings, folders, concurrency, self._settings.drain)

    async def _before_envoy(self, envoy: EnvoyProgram) -> None:
        await socket_there(self._settings.folders.sds_socket(envoy.settings.proxy_id), _SOCKET_WAIT)

    async def _before_workload(self, workload: PlannedWorkload) -> None:
        until = time.monotonic() + _SIDECAR_WAIT.total_seconds()
        while workload.proxy in self._envoys and time.monotonic() < until:
            envoy, _ = self._envoys[workload.proxy]
            try:
                if await envoy.admin.ready():
                    return
            except EnvoyFailed:
                pass
            await asyncio.sleep(0.05)
