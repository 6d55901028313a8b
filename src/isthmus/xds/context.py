"""What the builders of one proxy's resources share."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.cluster import Resolution, Service, ServicePort, Subset
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy, Role
from isthmus.model.route import Destination
from isthmus.model.settings import OutboundPolicy
from isthmus.model.world import World
from isthmus.xds.name import BLACK_HOLE, PASSTHROUGH, outbound_cluster


@dataclass(frozen=True, slots=True)
class Context:
    """One proxy, seen within the mesh and the world."""

    mesh: Mesh
    world: World
    proxy: Proxy

    def resolve(self, destination: Destination) -> tuple[Service, ServicePort, Subset | None] | None:
        """What ``destination`` names, or None if any part of it is unknown."""
        service = self.mesh.services.get(destination.host)
        port = service.port(destination.port) if service is not None else None
        if service is None or port is None:
            return None
        if destination.subset is None:
            return service, port, None
        subset = service.policy.subset(destination.subset)
        return None if subset is None else (service, port, subset)

    def cluster_of(self, destination: Destination) -> str:
        """The cluster that ``destination`` means; what cannot be resolved answers 503."""
        found = self.resolve(destination)
        if found is None:
            return BLACK_HOLE
        if found[0].resolution is Resolution.NONE:
            return PASSTHROUGH if self.passes_through else BLACK_HOLE
        return outbound_cluster(destination.host, destination.port, destination.subset)

    @property
    def policy_namespaces(self) -> frozenset[str]:
        """Whose policies may select the proxy: its own namespace's; of a gateway without a Deployment, its Gateways'.

        Such a proxy has its namespace from whichever of its Gateways is loaded first, which no policy can depend on.
        """
        own = frozenset({self.proxy.namespace})
        if self.proxy.role is not Role.GATEWAY or self.proxy.origin.ref.kind != "Gateway":
            return own
        return own | {gateway.namespace for gateway in self.mesh.gateways_of(self.proxy)}

    @property
    def passes_through(self) -> bool:
        """Whether requests may go where they themselves say: a program's own, never those that come to a gateway."""
        return self.proxy.role is Role.SIDECAR and (
            self.mesh.settings.outbound_policy is OutboundPolicy.ALLOW_ANY
            or any(service.resolution is Resolution.NONE for service in self.mesh.services.values())
        )
