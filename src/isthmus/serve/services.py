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
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc

from isthmus.ads.server import AdsServer, steady_clock
from isthmus.ads.status import Statuses
from isthmus.api.authority import authority_routes
from isthmus.api.drift import drift_routes
from isthmus.api.nodes import node_routes
from isthmus.config.watch import watch
from isthmus.consumer.place import store_url
from isthmus.control import garbage
from isthmus.control.admission import Admission
from isthmus.control.bundle_service import BundleService as RegoBundleService
from isthmus.control.control_plane import ControlPlane
from isthmus.control.credential_service import CredentialService
from isthmus.control.desired import Node
from isthmus.control.guests import Guests
from isthmus.control.handshakes import Handshakes
from isthmus.control.jwt_authority import JwtAuthority
from isthmus.control.last_good import LastGood
from isthmus.control.metrics import Counts, PlaneMetrics, follow_convergence
from isthmus.control.node_service import NodeService
from isthmus.control.nodes import Nodes
from isthmus.control.oidc import LoginSecrets
from isthmus.control.outbound_credentials import OutboundCredentials
from isthmus.control.roster import Roster
from isthmus.control.transition import Transition
from isthmus.control.trust_service import TrustService
from isthmus.control.trust_store import trust_stores
from isthmus.control.view import View
from isthmus.decide.rego.store import BundleStore as RegoBundleStore
from isthmus.federation.fetch import HttpsBundleFetcher
from isthmus.federation.server import FederationService
from isthmus.federation.store import BundleStore
from isthmus.handshake.server import HandshakeService
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.jwt_server import JwtService
from isthmus.identity.jwt_store import load as load_jwt_keys
from isthmus.identity.server import CertificateService, ControlPlaneTls, certificate_handlers
from isthmus.jwks.fetch import HttpFetcher, trust
from isthmus.jwks.refresh import Pace
from isthmus.jwks.server import JwksService, JwksStatus, follow_files
from isthmus.jwks.store import JwksStore, read_file
from isthmus.keeping import Keeping
from isthmus.model.world import IssuerKeys
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.log import Logs
from isthmus.proxy.namespace import Refusals, refusals_once
from isthmus.proxy.place import Folders
from isthmus.proxy.ports import PortBook
from isthmus.revocation.fetch import HttpFetcher as RevocationFetcher
from isthmus.revocation.server import RevocationService
from isthmus.revocation.store import RevocationStore
from isthmus.serve.authority import AuthorityKeeper
from isthmus.serve.authority_requests import AuthorityRequests
from isthmus.serve.bundles import RegoBundles
from isthmus.serve.drift import drift_gauges, drift_service
from isthmus.serve.federation import Federation, OwnBundle, federation_gauges, serve_bundle
from isthmus.serve.findings import Findings, Show
from isthmus.serve.given import given_by
from isthmus.serve.grpc_port import LEAST_OWN_TTL, serve_grpc
from isthmus.serve.http_port import serve_http
from isthmus.serve.keys import key_service
from isthmus.serve.logins import Logins
from isthmus.serve.manifests import Manifests
from isthmus.serve.nodes import follow_nodes, forget_the_lost, node_gauges, serve_enrolment
from isthmus.serve.options import ServeOptions
from isthmus.serve.orphan import until_orphaned
from isthmus.serve.proxies import Proxies
from isthmus.serve.rego import RegoTexts
from isthmus.serve.revocation import Revocation
from isthmus.serve.trust import Trust
from isthmus.serve.unused import warn_of_unused
from isthmus.state import StateDir

if TYPE_CHECKING:
    from isthmus.proxy.workload_api.source import SvidSource

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
NODE = "local"
_LONGEST_RETRY = timedelta(minutes=1)
_HANDSHAKES_BYTES = 16 << 20


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(options: ServeOptions, show: Show) -> None:
    """Run the control plane until cancelled or, under a supervisor, until it is gone.

    ``options.state`` is held already: its runtime folder is there. Raises ManifestsBroken, PortTaken, StateUnusable.
    """
    state = StateDir.at(options.state)
    await _Services(options, state, show, await refusals_once(state.runtime)).run()


class _Services:
    """All services of one control plane process."""

    def __init__(self, options: ServeOptions, state: StateDir, show: Show, refusals: Refusals) -> None:
        self._options = options
        self._state = state
        self._refusals = refusals
        self._folders = Folders(state.path, state.runtime)
        self._enrol_socket = self._folders.runtime / "enrol.sock"
        self._counts: Counts = Counter()
        self._jwks = _jwks_service(options, state, self._counts)
        self._keeping = Keeping(state, logger.error, StateDir.at(state.runtime / "aside"))
        self._ports = PortBook(self._keeping, options.published, check=not self._folders.holds_envoys)
        self._ads = self._ports.kept("control-plane", "ads", LOOPBACK)
        self._http = self._ports.kept("control-plane", "http", LOOPBACK)
        isolating = self._folders if refusals.isolation is None else None
        redirects = refusals.redirection is None
        runs = options.supervisor is not None or options.listen is None
        node = Node(NODE, self._ads, str(self._enrol_socket), sys.executable, isolating, redirects, runs)
        first = not self._folders.holds_envoys
        transition = Transition(lambda proxy: first or self._folders.bootstrap(proxy).exists())
        self._login_secrets = LoginSecrets(self._keeping)
        self._plane = ControlPlane(
            node,
            self._ports,
            OutboundCredentials(self._keeping),
            options.svid_ttl,
            self._jwks.watch,
            transition,
            self._login_secrets,
        )
        self._logins = Logins(self._plane, HttpFetcher(trust()), self._keeping)
        self._guests = Guests(StateDir.at(state.runtime))
        self._plane.inputs.guests = self._guests.documents
        self._plane.inputs.credential_store = store_url(state)
        self._last_good = LastGood(self._keeping)
        self._manifests = Manifests(self._plane, self._last_good, Findings(self._plane, show), strict=options.strict)
        self._statuses = Statuses()
        self._proxies = Proxies(self._plane, self._statuses, transition)
        self._tokens = JoinTokens(self._keeping)
        self._jwt = JwtAuthority(load_jwt_keys(state), self._keeping, _now)
        self._trust = Trust(self._plane, self._jwt, _svid_source(options))
        self._nodes = Nodes(self._keeping, _now, options.node_grace)
        follow_nodes(self._plane, self._nodes)
        self._drift = drift_service(self._plane, self._statuses, self._folders, self._nodes)
        self._bundles = FederationService(
            HttpsBundleFetcher(trust()),
            BundleStore(state.path / "federation"),
            self._trust.own_roots,
            counts=self._counts,
        )
        self._trusting = TrustService(self._plane, self._statuses, Roster(self._plane, _now, self._nodes), _now)
        log = Logs(max_bytes=_HANDSHAKES_BYTES).file(self._folders.handshakes_log)
        self._revocation = Revocation(
            self._plane,
            RevocationService(
                RevocationFetcher(), RevocationStore(state.path / "revocation"), clock=_now, counts=self._counts
            ),
        )
        self._rego_store = RegoBundleStore(state)
        self._rego_bundles = RegoBundles(self._plane, self._rego_store, _now, self._counts)
        self._handshakes = Handshakes(self._plane, log.write, steady_clock(), self._keeping)

    async def run(self) -> None:
        garbage.nothing_yet()
        previous = self._last_good.load()
        loads = watch(self._options.paths, previous=previous)
        self._manifests.first(await anext(loads), previous)
        self._revocation.take_up()
        self._handshakes.take_up()
        self._logins.take_up()
        self._rego_bundles.take_up()
        warn_of_unused(self._options, self._plane.mesh, self._ports, self._refusals)
        keeper, tls = self._authority()
        handlers, admission = self._handlers(keeper)
        listen = self._options.listen
        grpc_server = await serve_grpc(handlers, tls, self._ads, self._folders, self._enrol_socket, listen)
        if self._options.supervisor is None:
            # Of the level that is shown: whoever started us by hand waits for it.
            logger.warning("ready: xDS at %s, metrics at http://%s/metrics; Ctrl-C stops it", self._ads, self._http)
        working = (
            self._plane.run(),
            self._manifests.follow(loads),
            self._manifests.keep_good(),
            self._follow_jwks(),
            self._proxies.follow(),
            self._proxies.see_off(),
            self._handshakes.run(),
            self._revocation.run(),
            self._logins.run(),
            self._rego_bundles.run(),
            RegoTexts(self._plane).run(),
            garbage.collect_seldom(),
            self._jwks.run(),
            follow_files(self._jwks, self._options.jwks_files),
            keeper.run(),
            Federation(self._plane, self._bundles).run(),
            self._serve_bundle(tls),
            self._drift.run(),
            self._trust.follow(keeper),
            self._jwt.run(),
            self._observe(keeper, admission),
            forget_the_lost(self._nodes),
            serve_enrolment(admission, self._options.reach, tls),
        )
        try:
            await until_orphaned(self._options.supervisor, working)
        finally:
            await grpc_server.stop(grace=0.5)

    def _authority(self) -> tuple[AuthorityKeeper, ControlPlaneTls]:
        """What signs, told to the plane, and our own certificate by it."""
        keeper = AuthorityKeeper(
            self._state,
            self._keeping,
            lambda: self._plane.mesh.settings,
            _now,
            lambda: given_by(self._plane, self._options.ca),
            self._trusting.behind,
        )
        tls = ControlPlaneTls(
            keeper.latest,
            _now,
            max(self._options.svid_ttl, LEAST_OWN_TTL),
            self._trust.roots_beside,
            lambda: keeper.lists.latest.value.serials,
        )
        keeper.lists.deny(self._nodes.denied_certificates)
        self._trust.take_lists(keeper.lists.latest.value)
        self._trust.tell(keeper.latest.value)
        self._plane.inputs.revoked = keeper.revoked.value
        return keeper, tls

    def _handlers(self, keeper: AuthorityKeeper) -> tuple[tuple[grpc.GenericRpcHandler, ...], Admission]:
        """What is answered on the gRPC port, and who lets other machines in there."""
        roster = Roster(self._plane, _now, self._nodes)
        certificates = CertificateService(
            keeper.latest, roster, self._tokens, _now, self._options.svid_ttl, self._counts, keeper, self._nodes
        )
        ads = AdsServer(roster, roster.authorize, self._statuses, steady_clock(), self._counts)
        admission = Admission(
            self._plane,
            self._nodes,
            self._tokens,
            certificates,
            keeper.latest,
            _now,
            self._options.reach,
            ads.end,
            keeper.lists.deny,
        )
        handlers = (
            ads.handler(),
            NodeService(self._plane, self._nodes, _now, self._counts).handler(),
            certificate_handlers(certificates),
            CredentialService(self._plane, roster, _now, self._login_secrets).handler(),
            RegoBundleService(self._plane, roster, self._rego_store, _now).handler(),
            key_service(self._plane, roster, self._state, _now).handler(),
            JwtService(self._jwt.latest, keeper.latest, roster, _now, keeper, self._nodes, self._counts).handler(),
            self._trusting.handler(),
            HandshakeService(roster.authorize, self._handshakes.heard).handler(),
        )
        return handlers, admission

    async def _serve_bundle(self, tls: ControlPlaneTls) -> None:
        """For those who federate with this mesh."""
        wanted = self._options.bundle_endpoint
        if wanted is not None:
            own = OwnBundle(self._trust.own_roots, self._trust.jwt_keys, wanted.refresh_hint, self._keeping, _now)
            await serve_bundle(wanted, own, tls)

    async def _observe(self, keeper: AuthorityKeeper, admission: Admission) -> None:
        """Metrics and the HTTP API."""
        metrics = PlaneMetrics(
            self._plane,
            self._statuses,
            self._counts,
            lambda: keeper.latest.value.bundle.expires,
            lambda: {
                **node_gauges(self._nodes),
                **federation_gauges(self._bundles),
                **drift_gauges(self._drift),
                **self._revocation.gauges(),
                **self._rego_bundles.gauges(),
            },
        )
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
            self._statistics,
        )
        requests = AuthorityRequests(keeper, self._state, _now, lambda: trust_stores(self._plane))
        more = (*authority_routes(requests), *node_routes(admission), *drift_routes(self._drift.fresh))
        await asyncio.gather(
            serve_http(view, self._folders.runtime / "api.sock", self._http, more),
            follow_convergence(self._plane, self._statuses, metrics),
        )

    async def _statistics(self, proxy_id: str) -> str:
        """Of an Envoy, wherever it runs."""
        proxy = self._plane.mesh.proxies_by_id.get(proxy_id)
        if proxy is not None and proxy.node != NODE:
            return await self._nodes.statistics(proxy.node, proxy_id)
        return await AdminClient(self._folders.admin_socket(proxy_id)).prometheus()

    async def _follow_jwks(self) -> None:
        async for status in self._jwks.status:
            self._plane.inputs.jwks = {source: _issuer_keys(found) for source, found in status.items()}
            self._plane.changed()


def _svid_source(options: ServeOptions) -> SvidSource | None:
    if options.spire is None:
        return None
    # Its library is a tenth of a second of every start, which few have a use for.
    from isthmus.proxy.workload_api.source import SvidSource

    return SvidSource(options.spire)


def _jwks_service(options: ServeOptions, state: StateDir, counts: Counts) -> JwksService:
    fixed = {issuer: read_file(path) for issuer, path in options.jwks_files.items()}
    # Failures are not answered more slowly than successes are renewed.
    pace = Pace(options.jwks_refresh, longest_retry=min(_LONGEST_RETRY, options.jwks_refresh))
    return JwksService(
        HttpFetcher(trust()), JwksStore(state.path / "jwks"), fixed, clock=_now, pace=pace, counts=counts
    )


def _issuer_keys(status: JwksStatus) -> IssuerKeys:
    return IssuerKeys(status.keys.text if status.keys is not None else None, status.error)
