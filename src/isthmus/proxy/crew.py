"""The Envoys and local programs of one plan: what is missing is started, what is no longer planned is drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.errors import EnvoyFailed
from isthmus.model.proxy import Role
from isthmus.proxy.decision import DecisionProgram
from isthmus.proxy.envoy import (
    DRAIN,
    GATEWAY_CONCURRENCY,
    SIDECAR_CONCURRENCY,
    EnvoyProgram,
    socket_there,
)
from isthmus.proxy.keep import Kept, Say, Start, Stop
from isthmus.proxy.log import Logs
from isthmus.proxy.namespace import Namespace
from isthmus.proxy.place import Folders, bootstrap_settings
from isthmus.proxy.plan import Plan, PlannedProxy, PlannedWorkload, Redirection
from isthmus.proxy.relay import RelayProgram
from isthmus.proxy.workload import LocalProgram, Sink
from isthmus.xds.relay import RELAY_ID

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
        self._relay: Kept | None = None
        self._services: dict[str, tuple[DecisionProgram, Kept]] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._outdated: list[Namespace] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._heard: dict[str, int] = {}
        self._logs = Logs(lambda what: say("logs", what))

    @property
    def pids(self) -> Mapping[str, int]:
        """What runs now: by proxy id, or ``namespace/name`` of a local program."""
        return {kept.name: kept.child.pid for kept in self._all() if kept.child is not None}

    @property
    def programs(self) -> Mapping[str, int]:
        """The local programs that run now, by the id of their sidecar."""
        return {
            planned.proxy: kept.child.pid for planned, _, kept in self._workloads.values() if kept.child is not None
        }

    def follow(self, plan: Plan) -> None:
        """Bring what runs to ``plan``; does not wait for it. An Envoy whose bootstrap changed is replaced."""
        self._follow_relay(plan)
        self._follow_services(plan)
        envoys = {proxy.id: self._envoy(plan, proxy) for proxy in plan.proxies}
        workloads = {f"{one.namespace}/{one.name}": one for one in plan.workloads}
        for name in [name for name, (planned, _, _) in self._workloads.items() if workloads.get(name) != planned]:
            planned, _, kept = self._workloads.pop(name)
            sidecar = None if planned.proxy in envoys else self._envoys.get(planned.proxy)
            self._leave(kept, None if sidecar is None else _drain_inbound(*sidecar))
        for name in [name for name, (envoy, _) in self._envoys.items() if envoys.get(name) != envoy]:
            of_program = name.partition("~")[2].replace("~", "/")
            self._leave(self._envoys.pop(name)[1], self._left(of_program))
        for name, envoy in envoys.items():
            if name not in self._envoys:
                kept = self._begin(name, envoy.start, envoy.stop, self._before_envoy(envoy))
                self._envoys[name] = (envoy, kept)
        for name, workload in workloads.items():
            if name not in self._workloads:
                namespace = self._namespace(workload.proxy, workload.redirection) if workload.isolated else None
                program = LocalProgram(workload, self._settings.folders, self._settings.output, namespace)
                kept = self._begin(name, program.start, program.stop, self._before_workload(workload))
                self._workloads[name] = (workload, program, kept)
        for proxy_id in self._namespaces.keys() - {proxy.id for proxy in plan.proxies if proxy.isolated}:
            self._let_go(self._namespaces.pop(proxy_id))
        while self._outdated:
            self._let_go(self._outdated.pop())
        if plan.relay is None and self._relay is not None:
            self._leave(self._relay, self._all_left())
            self._relay = None

    async def silent(self) -> tuple[str, ...]:
        """What does not listen yet where it should, local programs and services; without what has failed already."""
        starting = {name: program for name, (_, program, kept) in self._workloads.items() if not kept.failed}
        services = tuple(name for name, (one, kept) in self._services.items() if not (kept.failed or one.listens))
        return (*services, *[name for name, program in starting.items() if not await program.listens()])

    async def listening(self) -> frozenset[str]:
        """The sidecars (by id) whose local program has listened where it should since it was last started."""
        found = set()
        for name, (planned, program, kept) in self._workloads.items():
            if self._heard.get(name) == kept.starts or (kept.child is not None and await program.listens()):
                self._heard[name] = kept.starts
                found.add(planned.proxy)
        self._heard = {name: starts for name, starts in self._heard.items() if name in self._workloads}
        return frozenset(found)

    async def end(self) -> None:
        """From the outside in: nothing ends while somebody before it may still send to it.

        Gateways first, then the sidecars' side that takes requests, the programs, and what these called by.
        """
        gateways = [name for name, (envoy, _) in self._envoys.items() if envoy.gateway]
        await asyncio.gather(*(self._envoys[name][1].stop() for name in gateways))
        sidecars = (self._envoys.get(planned.proxy) for planned, _, _ in self._workloads.values())
        await asyncio.gather(*(_drain_inbound(*sidecar) for sidecar in sidecars if sidecar is not None))
        await asyncio.gather(*(kept.stop() for _, _, kept in self._workloads.values()))
        await asyncio.gather(*(kept.stop() for name, (_, kept) in self._envoys.items() if name not in gateways))
        await asyncio.gather(*(task for _, task in list(self._leaving.values())))
        if self._relay is not None:
            await self._relay.stop()
        await asyncio.gather(*(kept.stop() for _, kept in self._services.values()))
        for namespace in self._namespaces.values():
            namespace.close()

    def kill(self) -> None:
        """End everything at once."""
        for kept in self._all():
            kept.kill()

    def _all(self) -> Iterable[Kept]:
        yield from (kept for kept, _ in self._leaving.values())
        yield from (kept for _, kept in self._envoys.values())
        yield from (kept for _, _, kept in self._workloads.values())
        yield from (kept for _, kept in self._services.values())
        if self._relay is not None:
            yield self._relay

    def _follow_relay(self, plan: Plan) -> None:
        """Before the sidecars, whose way out it is."""
        if plan.relay is None:
            return
        program = RelayProgram(self._settings.folders, self._logs)
        try:
            program.aim(plan.relay)
        except OSError as failed:
            self._say(RELAY_ID, f"what isolated workloads may reach stays as it was: {failed}")
        if self._relay is None:
            self._relay = self._begin(RELAY_ID, program.start, program.stop, _at_once())

    def _follow_services(self, plan: Plan) -> None:
        """Before the Envoys that ask them; what is no longer asked ends once those who asked are gone."""
        planned = {one.name: one for one in plan.services}
        for name in self._services.keys() - planned.keys():
            self._leave(self._services.pop(name)[1], self._all_left())
        for name, one in planned.items():
            known = self._services.get(name)
            if known is not None and known[0].takes(one):
                continue
            if known is not None:
                self._leave(known[1])
            program = DecisionProgram(one, self._settings.folders, self._logs, self._say)
            self._services[name] = program, self._begin(name, program.start, program.stop, _at_once())

    def _namespace(self, proxy_id: str, redirection: Redirection | None) -> Namespace:
        """The sidecar's; a new one where the redirection is another, which is laid with the network."""
        found = self._namespaces.get(proxy_id)
        if found is None or found.redirection != redirection:
            if found is not None:
                self._outdated.append(found)
            found = self._namespaces[proxy_id] = Namespace(redirection)
        return found

    def _all_left(self) -> Coroutine[Any, Any, None]:
        """Until those who leave now are gone."""
        leaving = [task for _, task in self._leaving.values()]

        async def wait() -> None:
            await asyncio.gather(*(asyncio.shield(task) for task in leaving), return_exceptions=True)

        return wait()

    def _let_go(self, namespace: Namespace) -> None:
        """Once nobody who leaves can start in it any more."""
        left = self._all_left()

        async def close() -> None:
            await left
            namespace.close()

        self._closing.add(task := asyncio.create_task(close()))
        task.add_done_callback(self._closing.discard)

    def _begin(self, name: str, start: Start, stop: Stop, before: Awaitable[object]) -> Kept:
        kept = Kept(name, start, stop, self._say, changed=self._changed)
        kept.begin(after=self._after_leaving(name, before))
        return kept

    async def _after_leaving(self, name: str, before: Awaitable[object]) -> None:
        """The one of the same name that is still draining holds the ports."""
        await self._left(name)
        await before

    async def _left(self, name: str) -> None:
        if name in self._leaving:
            await asyncio.shield(self._leaving[name][1])

    def _leave(self, kept: Kept, first: Coroutine[Any, Any, None] | None = None) -> None:
        """Stop it, after ``first`` and whatever of the same name still stops."""
        earlier = self._leaving.get(kept.name)

        async def leave() -> None:
            if first is not None:
                await first
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
        settings = bootstrap_settings(folders, plan, proxy)
        gateway = proxy.role is Role.GATEWAY
        concurrency = self._settings.gateway_concurrency if gateway else SIDECAR_CONCURRENCY
        namespace = self._namespace(proxy.id, proxy.redirection) if proxy.isolated else None
        return EnvoyProgram(
            settings, folders, concurrency, self._settings.drain, namespace, logs=self._logs, gateway=gateway
        )

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


async def _at_once() -> None:
    """Nothing to wait for."""


async def _drain_inbound(envoy: EnvoyProgram, kept: Kept) -> None:
    """Let the requests end that a sidecar's program has under way."""
    if kept.child is not None:
        with suppress(EnvoyFailed):
            await envoy.drain_requests(kept.child, inbound_only=True)
