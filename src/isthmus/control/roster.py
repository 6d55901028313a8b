"""Who may be what: the compiled mesh, as the servers ask it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509

from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import credentials
from isthmus.control.nodes import NODE_TTL, Nodes
from isthmus.control.registrations import jwt_ttl, registered_identity, registrations_of
from isthmus.errors import NotEnrolled, SvidInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import peer_identity
from isthmus.latest import Latest
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.proxy import Proxy
from isthmus.model.world import World
from isthmus.proxy.plan import PlannedCredential
from isthmus.xds.snapshot import Snapshot


class Roster:
    """Implements ``Assignments``, ``JwtAssignments`` (identity), ``Snapshots`` and ``Authorize`` (ads.server)."""

    def __init__(self, plane: ControlPlane, clock: Callable[[], datetime], nodes: Nodes | None = None) -> None:
        """``nodes``: other machines; None: there are none."""
        self._plane = plane
        self._clock = clock
        self._nodes = nodes
        self._planned: dict[str, tuple[Mesh, World, tuple[PlannedCredential, ...], frozenset[str]]] = {}
        """By node, as long as mesh and world are the same: ten thousand certificates are asked for one by one."""

    def may_hold(self, node: str, spiffe_id: SpiffeId) -> bool:
        mesh = self._plane.mesh
        registered = (registered_identity(mesh, one) for one in registrations_of(mesh, node))
        return spiffe_id.uri in {*(proxy.identity.uri for proxy in self._proxies_of(node)), *registered}

    def longest(self, node: str, spiffe_id: SpiffeId) -> timedelta:
        if spiffe_id.node_name is not None:
            return NODE_TTL
        mesh, usual = self._plane.mesh, self._plane.world.svid_ttl
        registered = (
            one.ttl or usual for one in registrations_of(mesh, node) if registered_identity(mesh, one) == spiffe_id.uri
        )
        beside = (usual for proxy in self._proxies_of(node) if proxy.identity.uri == spiffe_id.uri)
        return max((*registered, *beside), default=usual)

    def jwt_ttl(self, node: str, spiffe_id: SpiffeId, audiences: tuple[str, ...]) -> timedelta | None:
        """As of ``identity.jwt_server.JwtAssignments``."""
        if spiffe_id.uri in self._plane.inputs.revoked:
            return None
        return jwt_ttl(self._plane.mesh, node, spiffe_id.uri, audiences)

    def may_serve(self, node: str, dns_names: tuple[str, ...]) -> bool:
        # Development certificates are for the machine of `up` alone.
        return node == LOCAL_NODE and any(
            credential.development_dns == dns_names for credential in self.credentials_of(node)
        )

    def credentials_of(self, node: str) -> tuple[PlannedCredential, ...]:
        """What the gateways of ``node`` are to serve."""
        mesh, world = self._plane.mesh, self._plane.world
        known = self._planned.get(node)
        if known is None or known[0] is not mesh or known[1] is not world:
            found = tuple(one for proxy in self._proxies_of(node) for one in credentials(mesh, proxy, world))
            known = self._planned[node] = (mesh, world, found, frozenset(one.name for one in found))
        return known[2]

    def credential_names(self, node: str) -> frozenset[str]:
        """Those of :meth:`credentials_of`."""
        self.credentials_of(node)
        return self._planned[node][3]

    def acquire(self, proxy_id: str) -> Latest[Snapshot]:
        """Raises NotEnrolled for a proxy that the mesh does not have."""
        if proxy_id not in self._plane.mesh.proxies_by_id:
            raise NotEnrolled(f"no proxy {proxy_id}")
        return self._plane.snapshot(proxy_id)

    def release(self, proxy_id: str) -> None:
        """Snapshots are kept as long as the mesh has the proxy, whoever is connected."""

    def authorize(self, peer_pem: bytes | None, node_id: str) -> None:
        """Raises NotEnrolled unless the peer's one identity is that of the proxy it says it is."""
        proxy = self._plane.mesh.proxies_by_id.get(node_id)
        if peer_pem is None or proxy is None:
            raise NotEnrolled(f"no certificate, or no proxy {node_id}")
        try:
            peer = peer_identity(peer_pem, self._clock())
        except SvidInvalid as invalid:
            raise NotEnrolled(str(invalid)) from invalid
        if peer.uri != proxy.identity.uri:
            raise NotEnrolled(f"{peer} is not {proxy.identity}")
        if peer.uri in self._plane.inputs.revoked:
            raise NotEnrolled(f"{peer} was revoked")
        self._check_certificate(peer_pem)
        if self._nodes is not None:
            self._nodes.check_proxy(peer_pem, proxy.node)

    def check_node(self, node: str, peer_pem: bytes) -> None:
        """Raises NotEnrolled for a node that was put out, by its certificate (PEM, verified by the handshake)."""
        self._check_certificate(peer_pem)
        if self._nodes is not None and node != LOCAL_NODE:
            self._nodes.check(node, peer_pem)

    def _check_certificate(self, peer_pem: bytes) -> None:
        serial = x509.load_pem_x509_certificate(peer_pem).serial_number
        if serial in self._plane.inputs.revoked_certificates:
            raise NotEnrolled(f"the certificate {serial:x} was revoked")

    def _proxies_of(self, node: str) -> tuple[Proxy, ...]:
        return tuple(proxy for proxy in self._plane.mesh.proxies if proxy.node == node)
