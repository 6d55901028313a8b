"""Who may be what: the compiled mesh, as the servers ask it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from isthmus.control.control_plane import ControlPlane
from isthmus.control.desired import credentials
from isthmus.errors import NotEnrolled, SvidInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import peer_identity
from isthmus.latest import Latest
from isthmus.model.proxy import Proxy
from isthmus.proxy.plan import PlannedCredential
from isthmus.xds.snapshot import Snapshot


class Roster:
    """Implements ``identity.server.Assignments``, ``ads.server.Snapshots`` and ``ads.server.Authorize``."""

    def __init__(self, plane: ControlPlane, clock: Callable[[], datetime]) -> None:
        self._plane = plane
        self._clock = clock

    def may_hold(self, node: str, spiffe_id: SpiffeId) -> bool:
        return any(proxy.identity.uri == spiffe_id.uri for proxy in self._proxies_of(node))

    def may_serve(self, node: str, dns_names: tuple[str, ...]) -> bool:
        return any(credential.development_dns == dns_names for credential in self.credentials_of(node))

    def credentials_of(self, node: str) -> tuple[PlannedCredential, ...]:
        """What the gateways of ``node`` are to serve."""
        mesh = self._plane.mesh
        return tuple(credential for proxy in self._proxies_of(node) for credential in credentials(mesh, proxy))

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

    def _proxies_of(self, node: str) -> tuple[Proxy, ...]:
        return tuple(proxy for proxy in self._plane.mesh.proxies if proxy.node == node)
