"""Services: the names that traffic is sent to, their ports, and who stands behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.diag import Origin


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
    NONE = "none"


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


class TlsMode(Enum):
    """The client side of TLS towards a service (DestinationRule)."""

    AUTO = "AUTO"
    """Mutual TLS where the endpoint's proxy takes it, plaintext elsewhere: Istio's auto mTLS."""
    DISABLE = "DISABLE"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


@dataclass(frozen=True, slots=True)
class Subset:
    name: str
    labels: Mapping[str, str]
    tls_mode: TlsMode | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """What DestinationRules say of a service."""

    subsets: tuple[Subset, ...] = ()
    tls_mode: TlsMode = TlsMode.AUTO
    port_tls_modes: Mapping[int, TlsMode] | None = None
    connect_timeout: timedelta = timedelta(seconds=10)
    origins: tuple[Origin, ...] = ()

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
    policy: ServicePolicy = ServicePolicy()

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)
