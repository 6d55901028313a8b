"""Services: the names that traffic is sent to, their ports, and who stands behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.traffic_policy import LeveledPolicy, TrafficPolicy


class Protocol(Enum):
    """How a port is spoken to. ``AUTO`` (nothing said) is HTTP/1.1, as Istio's sniffing ends for HTTP programs."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"

    @property
    def is_http(self) -> bool:
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)

    @property
    def is_http2(self) -> bool:
        return self in (Protocol.HTTP2, Protocol.GRPC)


class Resolution(Enum):
    """Where a service's endpoints come from."""

    WORKLOADS = "workloads"
    """The workloads that its selector matches."""
    STATIC = "static"
    DNS = "dns"
    DNS_ROUND_ROBIN = "dns round robin"
    """As DNS, but connections stay when the name's addresses change: only new ones go to the newest."""
    NONE = "none"

    @property
    def is_dns(self) -> bool:
        return self in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


@dataclass(frozen=True, slots=True)
class ServicePort:
    number: int
    name: str
    protocol: Protocol
    target: int | str | None = None
    """The workload's port, by number or name; None: the same number."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A declared endpoint of a ServiceEntry; ``ports`` by name of the service's port."""

    address: str
    ports: Mapping[str, int]
    labels: Mapping[str, str]
    weight: int = 1
    service_account: str | None = None


@dataclass(frozen=True, slots=True)
class Subset:
    name: str
    labels: Mapping[str, str]
    traffic: LeveledPolicy
    origin: Origin


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """What DestinationRules say of a service."""

    subsets: tuple[Subset, ...] = ()
    traffic: LeveledPolicy = field(default_factory=LeveledPolicy)
    origins: tuple[Origin, ...] = ()

    @property
    def leveled(self) -> tuple[LeveledPolicy, ...]:
        """What is said of the service, and of each subset."""
        return (self.traffic, *(subset.traffic for subset in self.subsets))

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its full host name (``orders.shop.svc.cluster.local``)."""

    host: str
    namespace: str
    ports: tuple[ServicePort, ...]
    resolution: Resolution
    origin: Origin
    selector: Mapping[str, str] | None = None
    endpoints: tuple[Endpoint, ...] = ()
    external: bool = False
    """Outside the mesh (ServiceEntry MESH_EXTERNAL): no automatic mutual TLS."""
    aliases: tuple[str, ...] = ()
    """Other names that mean the same: ``orders.shop``, and ``orders`` within its namespace."""
    addresses: tuple[str, ...] = ()
    """IP addresses that mean the same."""
    policy: ServicePolicy = ServicePolicy()
    subject_alt_names: tuple[str, ...] = ()
    """Whom its servers' certificates may name instead of the host, where TLS begins at the proxy (ServiceEntry)."""

    def traffic(self, port: int, subset: Subset | None = None) -> TrafficPolicy:
        """What is in force towards ``port``."""
        everybody = self.policy.traffic
        return everybody.at(port) if subset is None else subset.traffic.within(everybody, port)

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)
