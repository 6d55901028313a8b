"""The composition root: builds the control plane's services and connects them. Nobody else does."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio

from isthmus.ads.server import KEEPALIVE_OPTIONS, AdsServer, steady_clock
from isthmus.ads.status import Statuses
from isthmus.analyze import CHECKS
from isthmus.api.listening import patiently, run_http, tcp_socket, unix_socket
from isthmus.api.server import build_private, build_public
from isthmus.compile import Compiler
from isthmus.config.load import Loaded
from isthmus.config.resource import Document
from isthmus.config.watch import watch
from isthmus.control import garbage
from isthmus.control.control_plane import ControlPlane
from isthmus.control.credential_service import CredentialService
from isthmus.control.desired import Node, listening_places, wants_isolation
from isthmus.control.guests import Guests, is_guest
from isthmus.control.last_good import LastGood
from isthmus.control.metrics import Counts, PlaneMetrics, follow_convergence
from isthmus.control.outbound_credentials import OutboundCredentials
from isthmus.control.refusals import ports_refused
from isthmus.control.roster import Roster
from isthmus.control.transition import Transition, opened
from isthmus.control.view import View
from isthmus.diag import Diagnostic, Ref, Report, Severity
from isthmus.errors import IsthmusError, ManifestsBroken, StateUnusable
from isthmus.identity.authority import Authority
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.server import CertificateService, ControlPlaneTls, certificate_handlers, server_credentials
from isthmus.identity.store import load_or_create, put_back
from isthmus.jwks.fetch import HttpFetcher, trust
from isthmus.jwks.refresh import Pace
from isthmus.jwks.server import JwksService, JwksStatus, follow_files
from isthmus.jwks.store import JwksStore, read_file
from isthmus.keeping import Keeping
from isthmus.latest import Latest
from isthmus.model.world import IssuerKeys
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.namespace import refusal_once
from isthmus.proxy.place import Folders
from isthmus.proxy.ports import PortBook, Published
from isthmus.state import StateDir

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
NODE = "local"
_LONGEST_RETRY = timedelta(minutes=1)
_AUTHORITY_CHECK = timedelta(hours=1)
_STATE_CHECK = timedelta(seconds=1)
_LOOK_SECONDS = 0.02
_PROGRAM_SECONDS = 0.1
_FAREWELL_LOOKS = 500
"""A proxy that left the mesh waits ten seconds at most for callers that do not answer."""
_LAST_REQUESTS = 0.25
_GUESTS_SECONDS = 10.0
"""How long commands that outlived the control plane may take to come back: they ask five times a second."""
_MOST_NAMED = 8
_LEAST_OWN_TTL = timedelta(minutes=10)
"""The control plane's own certificate: shorter ones are for testing the proxies' rotation."""
_SIZES = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", 64 << 20))


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``isthmus serve`` is told."""

    paths: tuple[str, ...]
    state: Path
    published: tuple[Published, ...] = ()
    jwks_files: Mapping[str, Path] = field(default_factory=dict)
    jwks_refresh: timedelta = timedelta(minutes=20)
    svid_ttl: timedelta = timedelta(hours=1)
    strict: bool = False
    supervisor: int | None = None
    """The pid of ``up``, whose pipe is our standard input; None: on our own."""


Show = Callable[[tuple[Diagnostic, ...]], None]
"""Shows the user findings that were not there before."""


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(options: ServeOptions, show: Show) -> None:
    """Run the control plane until cancelled or, under a supervisor, until it is gone.

    ``options.state`` is held already: its runtime folder is there. Raises ManifestsBroken, PortTaken, StateUnusable.
    """
    state = StateDir.at(options.state)
    await _Services(options, state, show, await refusal_once(state.runtime)).run()


class _Services:
    """All services of one control plane process."""

    def __init__(self, options: ServeOptions, state: StateDir, show: Show, not_isolated: str | None) -> None:
        """``not_isolated``: why no workload can have a network of its own here, if so."""
        self._options = options
        self._state = state
        self._show = show
        self._shown: frozenset[Diagnostic] = frozenset()
        self._in_force: frozenset[Ref] | None = None
        self._folders = Folders(state.path, state.runtime)
        self._enrol_socket = self._folders.runtime / "enrol.sock"
        fixed = {issuer: read_file(path) for issuer, path in options.jwks_files.items()}
        # Failures are not answered more slowly than successes are renewed.
        pace = Pace(options.jwks_refresh, longest_retry=min(_LONGEST_RETRY, options.jwks_refresh))
        self._counts: Counts = Counter()
        self._jwks = JwksService(
            HttpFetcher(trust()), JwksStore(state.path / "jwks"), fixed, clock=_now, pace=pace, counts=self._counts
        )
        self._keeping = Keeping(state, logger.error, StateDir.at(state.runtime / "aside"))
        self._ports = PortBook(self._keeping, options.published, check=not self._folders.holds_envoys)
        self._ads = self._ports.kept("control-plane", "ads", LOOPBACK)
        self._http = self._ports.kept("control-plane", "http", LOOPBACK)
        self._not_isolated = not_isolated
        isolating = self._folders if not_isolated is None else None
        node = Node(NODE, self._ads, str(self._enrol_socket), sys.executable, isolating)
        first = not self._folders.holds_envoys
        self._transition = Transition(lambda proxy: first or self._folders.bootstrap(proxy).exists())
        self._plane = ControlPlane(
            node,
            self._ports,
            OutboundCredentials(self._keeping),
            options.svid_ttl,
            self._jwks.watch,
            self._transition,
        )
        self._guests = Guests(StateDir.at(state.runtime))
        self._plane.inputs.guests = self._guests.documents
        self._last_good = LastGood(self._keeping)
        self._statuses = Statuses()
        self._tokens = JoinTokens()

    async def run(self) -> None:
        garbage.nothing_yet()
        previous = self._last_good.load()
        loads = watch(self._options.paths, previous=previous)
        self._first(await anext(loads), previous)
        self._warn_of_unused_options()
        authority = Latest(self._authority())
        grpc_server = await self._serve_grpc(authority)
        try:
            async with asyncio.TaskGroup() as tasks:
                ending = tasks.create_task(self._until_orphaned())
                working = [
                    tasks.create_task(part)
                    for part in (
                        self._plane.run(),
                        self._follow(loads),
                        self._follow_jwks(),
                        self._follow_statuses(),
                        self._see_off(),
                        garbage.collect_seldom(),
                        self._jwks.run(),
                        follow_files(self._jwks, self._options.jwks_files),
                        self._renew(authority),
                        self._keep_state(authority),
                        self._show_changes(),
                        self._serve_http(authority),
                    )
                ]
                await ending
                for task in working:
                    task.cancel()
        finally:
            await grpc_server.stop(grace=0.5)

    def _first(self, loaded: Loaded, previous: tuple[Document, ...]) -> None:
        """The first load: errors end the start, unless an earlier one left good manifests to go on with."""
        plane = self._plane
        good = Compiler().compile(previous).good if previous else {}
        self._take(loaded)
        plane.rebuild(good)
        self._show_now()
        stopping = [
            d for d in plane.diagnostics if d.severity is Severity.ERROR and (d.code.stops or self._options.strict)
        ]
        if stopping and not previous:
            raise ManifestsBroken(f"{len(stopping)} error(s) in the manifests: nothing is started")
        if stopping:
            logger.warning("the manifests have errors: going on with the last good version of what is broken")
        else:
            self._last_good.save(plane.inputs.documents)

    def _warn_of_unused_options(self) -> None:
        mesh = self._plane.mesh
        for one in self._ports.unused(listening_places(mesh)):
            whose = f"no gateway {one.gateway}" if one.gateway else "no gateway"
            logger.warning("-p %s:%s has no effect: %s declares port %s", one.port, one.declared, whose, one.declared)
        if self._not_isolated is not None and wants_isolation(mesh):
            logger.warning("programs share the machine's network, their ports with it: %s", self._not_isolated)
        issuers = {rule.issuer for policy in mesh.policies.request for rule in policy.rules}
        for issuer in self._options.jwks_files.keys() - issuers:
            logger.warning("--jwks %s=... has no effect: no RequestAuthentication names this issuer", issuer)

    def _take(self, loaded: Loaded) -> None:
        inputs = self._plane.inputs
        inputs.documents = loaded.documents
        inputs.loading = tuple(loaded.report)
        inputs.unparsed = loaded.broken

    async def _follow(self, loads: AsyncIterator[Loaded]) -> None:
        async for loaded in loads:
            self._take(loaded)
            self._plane.changed()

    async def _follow_jwks(self) -> None:
        async for status in self._jwks.status:
            self._plane.inputs.jwks = {source: _issuer_keys(found) for source, found in status.items()}
            self._plane.changed()

    async def _follow_statuses(self) -> None:
        """Ask for another port where an Envoy could not open the one it was given; learn what was opened."""
        version, plane = -1, self._plane
        while True:
            with suppress(TimeoutError):
                # Programs say nothing of theirs here: while some start, somebody has to look.
                async with asyncio.timeout(_PROGRAM_SECONDS if plane.world.starting else None):
                    version = await self._statuses.after(version)
            statuses = self._statuses.all()
            taken = ports_refused(statuses, plane.world.addresses)
            starting = [key for key in plane.world.starting if key.proxy not in plane.silent]
            found = opened(starting, statuses, plane.snapshots)
            if taken or found:
                plane.inputs.taken |= taken
                plane.inputs.opened |= found
                plane.changed()
            # A thousand proxies confirm one by one: they are looked at together.
            await asyncio.sleep(_LOOK_SECONDS)

    async def _see_off(self) -> None:
        """What the mesh no longer has goes when every caller knows that it is gone, or after a while."""
        async for turn in self._transition.turns:
            for _ in range(_FAREWELL_LOOKS):
                if self._settled():
                    break
                await asyncio.sleep(_LOOK_SECONDS)
            # Envoy confirms on its main thread; its workers hear a moment later.
            await asyncio.sleep(_LAST_REQUESTS)
            self._plane.see_off(turn)

    def _settled(self) -> bool:
        """Whether every connected proxy has what it should have, and every listening place is open."""
        plane = self._plane
        return not plane.world.starting and all(
            status.in_sync and status.snapshot_version == plane.snapshot(status.proxy_id).value.version
            for status in self._statuses.all()
        )

    async def _show_changes(self) -> None:
        async for _ in self._plane.turns:
            self._show_now()
            if not any(found.code.stops for found in self._plane.diagnostics if found.severity is Severity.ERROR):
                self._last_good.save(self._plane.inputs.documents)

    def _show_now(self) -> None:
        """Say what is new since the last time; what is mended is forgotten, and said again if it comes back."""
        report = Report()
        report.extend(found for found in self._plane.diagnostics if found.severity >= Severity.WARNING)
        for check in CHECKS:
            check.run(self._plane.mesh, report)
        found = report.at_least(Severity.WARNING)
        fresh = tuple(one for one in found if one not in self._shown)
        mended = self._shown and not found
        self._shown = frozenset(found)
        if fresh:
            self._show(fresh)
        if mended:
            logger.warning("everything that was reported is mended")
        self._say_what_came_and_went()

    def _say_what_came_and_went(self) -> None:
        """A removed policy means more access: no removal is silent. Guests come and go all the time."""
        compiled = self._plane.compiled.value
        refs = frozenset(ref for ref in (compiled.good if compiled is not None else ()) if not is_guest(ref))
        before, self._in_force = self._in_force, refs
        if before is None:
            return
        for what, some in (("removed", before - refs), ("added", refs - before)):
            if some:
                named = sorted(map(str, some))
                more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
                logger.warning("%s: %s%s", what, ", ".join(named[:_MOST_NAMED]), more)

    def _authority(self) -> Authority:
        settings = self._plane.mesh.settings
        return load_or_create(self._state, settings.trust_domain, _now(), settings.root_namespace)

    async def _renew(self, authority: Latest[Authority]) -> None:
        """The intermediate is renewed long before it ends."""
        while True:
            await asyncio.sleep(_AUTHORITY_CHECK.total_seconds())
            try:
                put_back(self._state, authority.value)
                authority.set(self._authority())
            except IsthmusError as failed:
                logger.error("the certificate authority goes on as it was: %s", failed)

    async def _keep_state(self, authority: Latest[Authority]) -> None:
        """Write what a full disk did not take, and what somebody removed, as soon as it can be written."""
        while True:
            await asyncio.sleep(_STATE_CHECK.total_seconds())
            self._keeping.retry()
            with suppress(StateUnusable):
                if put_back(self._state, authority.value):
                    logger.error("%s: the authority was removed; all but its root key is back", self._state.path)

    async def _serve_grpc(self, authority: Latest[Authority]) -> Any:
        """ADS, certificates and gateways' credentials over mutual TLS; enrolment on a Unix socket of this user."""
        roster = Roster(self._plane, _now)
        certificates = CertificateService(authority, roster, self._tokens, _now, self._options.svid_ttl, self._counts)
        server = grpc.aio.server(options=[*KEEPALIVE_OPTIONS, ("grpc.so_reuseport", 0), *_SIZES])
        ads = AdsServer(roster, roster.authorize, self._statuses, steady_clock(), self._counts)
        credentials = CredentialService(self._plane, roster, _now)
        server.add_generic_rpc_handlers((ads.handler(), certificate_handlers(certificates), credentials.handler()))
        tls = ControlPlaneTls(authority, _now, max(self._options.svid_ttl, _LEAST_OWN_TTL))
        await patiently(str(self._ads), lambda: server.add_secure_port(str(self._ads), server_credentials(tls)))
        self._folders.ads_socket.unlink(missing_ok=True)
        server.add_secure_port(f"unix:{self._folders.ads_socket}", server_credentials(tls))
        self._enrol_socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self._enrol_socket}")
        await server.start()
        self._folders.ads_socket.chmod(0o600)
        return server

    async def _serve_http(self, authority: Latest[Authority]) -> None:
        metrics = PlaneMetrics(self._plane, self._statuses, self._counts, lambda: authority.value.bundle.expires)
        self._plane.measured = metrics.rebuilt
        view = View(
            self._plane,
            self._statuses,
            self._guests,
            self._tokens,
            self._folders,
            self._options.supervisor or os.getpid(),
            self._http,
            _now,
            metrics.text,
            lambda proxy_id: AdminClient(self._folders.admin_socket(proxy_id)).prometheus(),
        )
        private = unix_socket(self._folders.runtime / "api.sock")

        async def serve_public() -> None:
            opened = await patiently(f"http://{self._http}", lambda: tcp_socket(self._http.host, self._http.port))
            await run_http(build_public(view), opened)

        async def forget_guests() -> None:
            await asyncio.sleep(_GUESTS_SECONDS)
            view.remove_unheld_workloads()

        await asyncio.gather(
            forget_guests(),
            run_http(build_private(view), private),
            serve_public(),
            follow_convergence(self._plane, self._statuses, metrics),
        )

    async def _until_orphaned(self) -> None:
        """Under a supervisor, its end is the end of our standard input; else wait until cancelled."""
        if self._options.supervisor is None:
            await asyncio.Event().wait()
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
        )
        while await lines.read(4096):
            pass


def _issuer_keys(status: JwksStatus) -> IssuerKeys:
    return IssuerKeys(status.keys.text if status.keys is not None else None, status.error)
