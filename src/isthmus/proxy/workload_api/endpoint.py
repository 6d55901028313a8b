"""The Workload Endpoint of one machine: its sockets, and what is behind them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from isthmus.errors import Refused
from isthmus.identity.jwt_svid import JwtSvid
from isthmus.latest import Latest
from isthmus.proxy.credential import Certificate, is_superseded
from isthmus.proxy.holder import GetIssuer
from isthmus.proxy.keep import BackOff
from isthmus.proxy.plan import Plan, TrustBundle
from isthmus.proxy.workload_api.attested import AttestedServer
from isthmus.proxy.workload_api.caller import Attestor, Caller, Peer, Process, process_of
from isthmus.proxy.workload_api.entitlement import Declared, Entitlement
from isthmus.proxy.workload_api.holdings import Holdings, Wish
from isthmus.proxy.workload_api.offer import Offer
from isthmus.proxy.workload_api.secret_service import SecretService
from isthmus.proxy.workload_api.service import WorkloadApi
from isthmus.proxy.workload_api.socket_file import listen

_log = logging.getLogger(__name__)
_PRIVATE, _PUBLIC = 0o600, 0o666
_PATIENCE_SECONDS = 2.0
"""A program that the supervisor has just started may be faster than the word of it."""
_NOTHING = Offer(Declared({}, (), 0))


class WorkloadEndpoint:
    """Implements ``service.Workloads``. :meth:`follow` and :meth:`started` tell it what there is."""

    def __init__(self, issuer: GetIssuer, tasks: asyncio.TaskGroup, supervisor: int) -> None:
        """``supervisor``: the process whose children are the programs that we will hear of."""
        self.offer = Latest(_NOTHING)
        self._tasks = tasks
        self._supervisor = supervisor
        self._attestor = Attestor()
        self._plan: Plan | None = None
        self._started: Mapping[str, Process] = {}
        self._held: Mapping[str, Process] = {}
        self._holdings = Holdings(issuer, self._certificates, lambda held: is_superseded(held, self._trust))
        self._servers: list[AttestedServer] = []

    async def serve(self, private: Path, public: Path | None) -> None:
        """Until cancelled. A socket that cannot be opened is told once, and tried again: what else runs goes on.

        ``private``: for processes of this user; ``public``: for every process of the machine. On Linux: elsewhere the
        kernel does not tell enough of who calls.
        """
        if sys.platform != "linux":
            return
        private.parent.mkdir(mode=0o700, exist_ok=True)
        places = [(private, _PRIVATE), *([(public, _PUBLIC)] if public is not None else [])]
        await asyncio.gather(*(self._open(path, mode) for path, mode in places))

    async def _open(self, path: Path, mode: int) -> None:
        back_off, told = BackOff(first=0.5, last=5.0), ""
        while True:
            try:
                listening = listen(path, mode)
                break
            except Refused as refused:
                if str(refused) != told:
                    told = str(refused)
                    _log.error("no Workload API at %s", told)
            await asyncio.sleep(back_off.pause(0))
        server = AttestedServer((WorkloadApi(self), SecretService(self)))
        try:
            await server.start(sock=listening)
            await asyncio.Event().wait()
        finally:
            server.close()
            listening.close()
            with suppress(OSError):
                path.unlink()  # noqa: ASYNC240 (our own socket, at the end)

    def follow(self, plan: Plan) -> None:
        """A new plan: other registrations, other programs, other bundles."""
        self._plan = plan
        self._held = _processes(dict(plan.programs), self._held)
        self._declare()

    def started(self, pids: Mapping[str, int]) -> None:
        """The programs that run now, by the id of their sidecar."""
        self._started = _processes(pids, self._started)
        self._declare()

    def _declare(self) -> None:
        plan = self._plan
        if plan is None:
            return
        ttl = plan.svid_ttl_seconds
        identities = {proxy.id: proxy.identity for proxy in plan.proxies}
        running = (*self._started.items(), *self._held.items())
        programs = {process: identities[proxy] for proxy, process in running if proxy in identities}
        declared = Declared(programs, plan.registrations, ttl)
        registered: set[Wish] = {(one.identity, one.svid_ttl_seconds) for one in plan.registrations}
        self._set(declared=declared)
        self._holdings.retain(registered | {(identity, ttl) for identity in programs.values()})
        # Ahead of whoever asks, so that it is there while the control plane is not. Programs of ours ask seldom.
        for wish in registered:
            self._holdings.want(wish, self._tasks)

    def _certificates(self, held: Mapping[Wish, Certificate]) -> None:
        self._set(certificates=held)

    def _set(self, declared: Declared | None = None, certificates: Mapping[Wish, Certificate] | None = None) -> None:
        before = self.offer.value
        self.offer.set(
            Offer(
                before.declared if declared is None else declared,
                self._trust,
                before.certificates if certificates is None else certificates,
            )
        )

    @property
    def _trust(self) -> tuple[TrustBundle, ...]:
        return self._plan.trust if self._plan is not None else ()

    async def entitlements(self, peer: Peer) -> Sequence[Entitlement]:
        caller = await self._attest(peer)
        found = self.offer.value.declared.entitlements(caller)
        if not found and any(pid == self._supervisor for pid, _ in caller.ancestors):
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    async for offer in self.offer:
                        if found := offer.declared.entitlements(caller):
                            break
        return found

    async def _attest(self, peer: Peer) -> Caller:
        digest = self.offer.value.declared.asks_for_digest
        return await asyncio.to_thread(self._attestor.attest, peer, digest=digest)

    def want(self, entitled: Sequence[Entitlement]) -> None:
        for one in entitled:
            self._holdings.want((one.identity, one.svid_ttl_seconds), self._tasks)

    async def token(self, identity: str, audiences: Sequence[str]) -> JwtSvid:
        return await self._holdings.token(identity, audiences)

    def stop(self) -> None:
        self._holdings.stop()


def _processes(pids: Mapping[str, int], known: Mapping[str, Process]) -> Mapping[str, Process]:
    """Which processes these numbers are; one that was known stays the same one, whoever has its number by now."""
    found = {key: known[key] if key in known and known[key][0] == pid else process_of(pid) for key, pid in pids.items()}
    return {key: process for key, process in found.items() if process is not None}
