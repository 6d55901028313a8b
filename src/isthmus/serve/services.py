"""Builds the control plane's services and connects them. Nobody else does.

A service is built in :meth:`_Services.__init__`, or in :meth:`_Services.run` if it needs the authority; what it does
all the time is one line of ``working``, what it answers over gRPC one of ``handlers``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from isthmus.ads.server import AdsServer, steady_clock
from isthmus.ads.status import Statuses
from isthmus.config.watch import watch
from isthmus.control import garbage
from isthmus.control.control_plane import ControlPlane
from isthmus.control.credential_service import CredentialService
from isthmus.control.desired import Node, listening_places, wants_isolation
from isthmus.control.guests import Guests
from isthmus.control.last_good import LastGood
from isthmus.control.metrics import Counts, PlaneMetrics, follow_convergence
from isthmus.control.outbound_credentials import OutboundCredentials
from isthmus.control.roster import Roster
from isthmus.control.transition import Transition
from isthmus.control.view import View
from isthmus.identity.authority import Authority
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.server import CertificateService, ControlPlaneTls, certificate_handlers
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
from isthmus.proxy.ports import PortBook
from isthmus.serve.authority import AuthorityKeeper
from isthmus.serve.findings import Findings, Show
from isthmus.serve.grpc_port import LEAST_OWN_TTL, serve_grpc
from isthmus.serve.http_port import serve_http
from isthmus.serve.manifests import Manifests
from isthmus.serve.options import ServeOptions
from isthmus.serve.proxies import Proxies
from isthmus.state import StateDir

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
NODE = "local"
_LONGEST_RETRY = timedelta(minutes=1)


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
        self._not_isolated = not_isolated
        self._folders = Folders(state.path, state.runtime)
        self._enrol_socket = self._folders.runtime / "enrol.sock"
        self._counts: Counts = Counter()
        self._jwks = _jwks_service(options, state, self._counts)
        self._keeping = Keeping(state, logger.error, StateDir.at(state.runtime / "aside"))
        self._ports = PortBook(self._keeping, options.published, check=not self._folders.holds_envoys)
        self._ads = self._ports.kept("control-plane", "ads", LOOPBACK)
        self._http = self._ports.kept("control-plane", "http", LOOPBACK)
        isolating = self._folders if not_isolated is None else None
        node = Node(NODE, self._ads, str(self._enrol_socket), sys.executable, isolating)
        first = not self._folders.holds_envoys
        transition = Transition(lambda proxy: first or self._folders.bootstrap(proxy).exists())
        self._plane = ControlPlane(
            node, self._ports, OutboundCredentials(self._keeping), options.svid_ttl, self._jwks.watch, transition
        )
        self._guests = Guests(StateDir.at(state.runtime))
        self._plane.inputs.guests = self._guests.documents
        self._last_good = LastGood(self._keeping)
        self._manifests = Manifests(self._plane, self._last_good, Findings(self._plane, show), strict=options.strict)
        self._statuses = Statuses()
        self._proxies = Proxies(self._plane, self._statuses, transition)
        self._tokens = JoinTokens()

    async def run(self) -> None:
        garbage.nothing_yet()
        previous = self._last_good.load()
        loads = watch(self._options.paths, previous=previous)
        self._manifests.first(await anext(loads), previous)
        self._warn_of_unused_options()
        keeper = AuthorityKeeper(self._state, self._keeping, lambda: self._plane.mesh.settings, _now)
        tls = ControlPlaneTls(keeper.latest, _now, max(self._options.svid_ttl, LEAST_OWN_TTL))
        handlers = self._handlers(keeper.latest)
        grpc_server = await serve_grpc(handlers, tls, self._ads, self._folders, self._enrol_socket)
        working = (
            self._plane.run(),
            self._manifests.follow(loads),
            self._manifests.keep_good(),
            self._follow_jwks(),
            self._proxies.follow(),
            self._proxies.see_off(),
            garbage.collect_seldom(),
            self._jwks.run(),
            follow_files(self._jwks, self._options.jwks_files),
            keeper.run(),
            self._observe(keeper.latest),
        )
        try:
            await self._until_orphaned(working)
        finally:
            await grpc_server.stop(grace=0.5)

    def _handlers(self, authority: Latest[Authority]) -> tuple[grpc.GenericRpcHandler, ...]:
        """What is answered on the gRPC port."""
        roster = Roster(self._plane, _now)
        certificates = CertificateService(authority, roster, self._tokens, _now, self._options.svid_ttl, self._counts)
        return (
            AdsServer(roster, roster.authorize, self._statuses, steady_clock(), self._counts).handler(),
            certificate_handlers(certificates),
            CredentialService(self._plane, roster, _now).handler(),
        )

    async def _observe(self, authority: Latest[Authority]) -> None:
        """Metrics and the HTTP API."""
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
        await asyncio.gather(
            serve_http(view, self._folders.runtime / "api.sock", self._http),
            follow_convergence(self._plane, self._statuses, metrics),
        )

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

    async def _follow_jwks(self) -> None:
        async for status in self._jwks.status:
            self._plane.inputs.jwks = {source: _issuer_keys(found) for source, found in status.items()}
            self._plane.changed()

    async def _until_orphaned(self, working: tuple[Coroutine[Any, Any, None], ...]) -> None:
        """Do the work until the supervisor is gone; on our own, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(self._supervisor_gone())
            parts = [tasks.create_task(part) for part in working]
            await ending
            for task in parts:
                task.cancel()

    async def _supervisor_gone(self) -> None:
        """Under a supervisor, its end is the end of our standard input; else wait until cancelled."""
        if self._options.supervisor is None:
            await asyncio.Event().wait()
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
        )
        while await lines.read(4096):
            pass


def _jwks_service(options: ServeOptions, state: StateDir, counts: Counts) -> JwksService:
    fixed = {issuer: read_file(path) for issuer, path in options.jwks_files.items()}
    # Failures are not answered more slowly than successes are renewed.
    pace = Pace(options.jwks_refresh, longest_retry=min(_LONGEST_RETRY, options.jwks_refresh))
    return JwksService(
        HttpFetcher(trust()), JwksStore(state.path / "jwks"), fixed, clock=_now, pace=pace, counts=counts
    )


def _issuer_keys(status: JwksStatus) -> IssuerKeys:
    return IssuerKeys(status.keys.text if status.keys is not None else None, status.error)
