"""A control plane of another machine, as a node's supervisor sees it: one stream, plans in, health out.

The messages are those of ``control/node_service.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio

from isthmus.errors import EnvoyFailed, NotEnrolled, Refused
from isthmus.identity.authority import control_plane_dns_name
from isthmus.identity.wire import FOLLOW_PATH
from isthmus.latest import Latest
from isthmus.model.offer import Offer, SidecarOffer, offer_to_json
from isthmus.model.probe import Exec, Probe
from isthmus.model.world import Address
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.issuer import OPTIONS
from isthmus.proxy.keep import BackOff, Say
from isthmus.proxy.key_relay import KeyRelay
from isthmus.proxy.look import look_at, pack
from isthmus.proxy.membership import Membership
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedWorkload, from_json, own_roots
from isthmus.proxy.probing import watch
from isthmus.proxy.rego_bundle import fetch_bundles, prune_bundles
from isthmus.proxy.unreached import unreached
from isthmus.state import StateDir

_LOOPBACK = "127.0.0.1"
_LEAVE_SECONDS = 12.0
"""A control plane waits ten seconds at most until callers know."""
_LOOK_SECONDS = 0.05
_LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Carried:
    """What this machine is for. ``command``: the program beside a sidecar; empty: it is started by others."""

    offer: Offer
    command: tuple[str, ...] = ()
    exec_probe: bool = False
    """Whether a probe of the manifests may run commands here."""


class RemoteControlPlane:
    """:meth:`run` keeps the stream open; :meth:`next_plan` is the supervisor's."""

    def __init__(self, folders: Folders, membership: Membership, at: Address, carried: Carried, say: Say) -> None:
        self._folders = folders
        self.plan: Latest[Plan | None] = Latest(None)
        self._state = StateDir.at(folders.state)
        self._membership = membership
        self._at = at
        self._carried = carried
        self._say = say
        self._said = ""
        self._reached = False
        self._questions: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._health: Latest[tuple[bool, str] | None] = Latest(None)
        self._leaving = asyncio.Event()
        self._key_relay = KeyRelay(folders.keys_socket, self._channel)

    async def run(self) -> None:
        """Until cancelled. Raises NotEnrolled or Refused when trying again is in vain, with what to do."""
        beside = [asyncio.create_task(part) for part in (self._probe(), self._key_relay.run())]
        back_off = BackOff(first=0.2, last=2.0)
        try:
            while True:
                if await self._follow():
                    back_off.reset()
                await asyncio.sleep(back_off.pause(0))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def next_plan(self, version: int | None) -> Plan:
        """The newest plan, once it is another than that of ``version``; without programs that others start."""
        async for plan in self.plan:
            if plan is not None and plan.version != version:
                return replace(plan, workloads=tuple(one for one in plan.workloads if one.argv))
        raise AssertionError("a Latest never ends")

    async def leave(self) -> None:
        """Say that this machine ends, and wait until nobody sends to it any more, or for twelve seconds."""
        self._leaving.set()
        until = time.monotonic() + _LEAVE_SECONDS
        # A control plane that is away knows nobody to tell: those who call find out by themselves.
        while self._reached and time.monotonic() < until:
            plan = self.plan.value
            if plan is None or not plan.proxies:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _follow(self) -> bool:
        """One stream to its end; whether it gave a plan."""
        got = False
        channel = self._channel()
        try:
            call = channel.stream_stream(FOLLOW_PATH)()
            await call.write(_encoded({"offer": offer_to_json(self._carried.offer)}))
            telling = asyncio.create_task(self._tell(call.write))
            try:
                while (read := await call.read()) is not grpc.aio.EOF:
                    message = json.loads(read)
                    if "plan" in message:
                        await self._take(from_json(message["plan"]))
                    if "statistics" in message or "look" in message:
                        self._questions.put_nowait(message)
                    self._tell_user("")
                    got = self._reached = True
                # Says how it ended: raises unless the server is content.
                await self._judge(await call.code(), await call.details())
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        except grpc.aio.AioRpcError as failed:
            await self._judge(failed.code(), failed.details())
        except (ValueError, KeyError, TypeError) as broken:
            self._tell_user(f"its answer cannot be read: {broken}")
        finally:
            self._reached = False
            await channel.close(None)
        return got

    async def _take(self, plan: Plan) -> None:
        """Once what its decisions are made by is here."""
        # The stream may be older than the certificate of its connection lives, which each question is judged by.
        channel = self._channel()
        try:
            await fetch_bundles(channel, self._state, plan.bundles, self._say)
        finally:
            await channel.close(None)
        before = self.plan.value
        self.plan.set(self._own(plan))
        # Those of the plan before as well: a process that starts just now may be about to read one.
        prune_bundles(self._state, (*plan.bundles, *(before.bundles if before is not None else ())))

    async def _judge(self, code: grpc.StatusCode, details: str | None) -> None:
        """Raises NotEnrolled or Refused for what does not mend itself."""
        if code is grpc.StatusCode.UNAUTHENTICATED:
            raise NotEnrolled(details or "not a node of this mesh")
        if code is grpc.StatusCode.FAILED_PRECONDITION and self.plan.value is None:
            raise Refused(details or "not what this node was let in for")
        if code is not grpc.StatusCode.OK:
            runs = self.plan.value is not None
            self._tell_user(unreached(code.name, details or "", datetime.now(UTC), runs=runs))

    def _tell_user(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._say(f"control plane {self._at}", what or "reached")

    def _channel(self) -> Any:
        """With the node's certificate of now. Raises NotEnrolled: it has ended."""
        node = self._membership.certificate(self._state)
        plan = self.plan.value
        roots = own_roots(plan.trust) if plan is not None else node.roots
        credentials = grpc.ssl_channel_credentials(roots, node.key_pem, node.chain)
        name = control_plane_dns_name(self._membership.control_plane_id)
        options = (*OPTIONS, ("grpc.ssl_target_name_override", name), ("grpc.max_receive_message_length", _LARGEST))
        return grpc.aio.secure_channel(str(self._at), credentials, options=options)

    async def _tell(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Send what there is to say, again on every new stream."""
        writing = asyncio.Lock()

        async def send(message: dict[str, Any]) -> None:
            async with writing:
                await write(_encoded(message))

        async def health() -> None:
            async for found in self._health:
                if found is not None:
                    await send({"health": {"healthy": found[0], "reason": found[1]}})

        async def leaving() -> None:
            await self._leaving.wait()
            await send({"leaving": True})

        async def answer() -> None:
            while True:
                ((about, wanted),) = (await self._questions.get()).items()
                await send({about: {"id": wanted["id"], "text": await self._answer(about, wanted)}})

        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await asyncio.gather(health(), leaving(), answer())

    async def _answer(self, about: str, wanted: dict[str, Any]) -> str | None:
        """By one of the Envoys here; None: there is no such, or it says nothing."""
        plan = self.plan.value
        if plan is None or all(proxy.id != wanted["proxy"] for proxy in plan.proxies):
            return None
        admin = AdminClient(self._folders.admin_socket(wanted["proxy"]))
        with suppress(EnvoyFailed, OSError):
            if about == "look":
                look = await look_at(admin)
                return await asyncio.to_thread(pack, look, str(wanted["known"]))
            return await admin.prometheus()
        return None

    async def _probe(self) -> None:
        """Ask the program how it is, as the newest plan says."""
        probe: Probe | None = None
        watching: asyncio.Task[None] | None = None
        try:
            async for plan in self.plan:
                wanted = next((one.probe for one in plan.workloads if one.probe is not None), None) if plan else None
                if wanted != probe:
                    if watching is not None:
                        watching.cancel()
                    probe = wanted
                    watching = None if probe is None else asyncio.create_task(self._watch(probe))
        finally:
            if watching is not None:
                watching.cancel()

    async def _watch(self, probe: Probe) -> None:
        if isinstance(probe.action, Exec) and not self._carried.exec_probe:
            # Who writes manifests is not who administers this machine.
            self._heard(False, "its probe is a command, and this machine runs none (--allow-exec-probe)")
            return
        known = self._health.value
        await watch(probe, self._heard, well=known is not None and known[0])

    def _heard(self, well: bool, why: str) -> None:
        self._health.set((well, why))
        self._say("probe", "the program is well" if well else f"the program is not well: {why}")

    def _own(self, plan: Plan) -> Plan:
        """With what only this machine knows: how it reaches the control plane, and its program's command."""
        return replace(plan, ads=self._at, workloads=tuple(map(self._program, plan.workloads)))

    def _program(self, planned: PlannedWorkload) -> PlannedWorkload:
        offer = self._carried.offer
        ports = offer.ports if isinstance(offer, SidecarOffer) else ()
        listens = tuple(Address(_LOOPBACK, port.app) for port in ports)
        return replace(planned, argv=self._carried.command, working_directory=os.getcwd(), listens=listens)


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
