"""What the builders of one proxy's resources share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from isthmus.model.cluster import Resolution, Service, ServicePort, Subset
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy, Role
from isthmus.model.route import Destination
from isthmus.model.settings import OutboundPolicy
from isthmus.model.traffic_policy import TlsMode, TrafficPolicy
from isthmus.model.world import World
from isthmus.xds.name import BLACK_HOLE, PASSTHROUGH, outbound_cluster

P = ParamSpec("P")
T = TypeVar("T")


class Recaller(Protocol):
    """Keeps what parts gave; see ``xds/cache.py``."""

    def recall(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any: ...
    def aspect(self, function: Callable[..., Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Context:
    """One proxy, seen within the mesh and the world."""

    mesh: Mesh
    world: World
    proxy: Proxy
    recaller: Recaller | None = field(default=None, repr=False, compare=False)

    def recall(self, function: Callable[Concatenate[Context, P], T], *arguments: P.args, **none: P.kwargs) -> T:
        """``function(self, *arguments)``, or what it gave for a proxy and a mesh that look the same to it.

        ``function`` is pure, and its result is never changed: it is shared. Worth it for what is dear, is asked by
        many proxies, or reads much less than its caller.
        """
        if self.recaller is None:
            return function(self, *arguments, **none)
        found: T = self.recaller.recall(function, arguments)
        return found

    def aspect(self, function: Callable[[Context], T]) -> T:
        """As :meth:`recall`, of something small about the proxy: whoever asks is shared by all of the same answer.

        A part that asks for the proxy's name is this proxy's alone; one that asks for an aspect in which a thousand
        proxies are alike, though each by its own name, is made once for the thousand.
        """
        if self.recaller is None:
            return function(self)
        found: T = self.recaller.aspect(function)
        return found

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
            # What is passed on is passed on in plaintext: a rule that asks for TLS must not be met so.
            tls = found[0].traffic(found[1].number, found[2]).tls
            open_to_all = tls is None or tls.mode is TlsMode.DISABLE
            return PASSTHROUGH if self.passes_through and open_to_all else BLACK_HOLE
        return outbound_cluster(destination.host, destination.port, destination.subset)

    def traffic_of(self, destination: Destination) -> TrafficPolicy:
        """What DestinationRules say of the traffic to ``destination``; nothing, of one that is unknown."""
        found = self.resolve(destination)
        return TrafficPolicy() if found is None else found[0].traffic(found[1].number, found[2])

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
            self.mesh.settings.outbound_policy is OutboundPolicy.ALLOW_ANY or self.mesh.anywhere
        )
