"""What DestinationRules say of the traffic to a service: pools, ejection, load balancing and TLS of its clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from isthmus.diag import Origin


class TlsMode(Enum):
    """The client side of TLS towards a service (DestinationRule)."""

    AUTO = "AUTO"
    """Mutual TLS where the endpoint's proxy takes it, plaintext elsewhere: Istio's auto mTLS."""
    DISABLE = "DISABLE"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    SIMPLE = "SIMPLE"
    """TLS, the client without a certificate: the server's must descend from the roots given, or the system's."""
    MUTUAL = "MUTUAL"
    """TLS with a certificate of the user's own."""

    @property
    def is_origination(self) -> bool:
        """Whether it is TLS to a server that knows nothing of the mesh."""
        return self in (TlsMode.SIMPLE, TlsMode.MUTUAL)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Absolute paths of a PEM chain and its key, on the machine of the proxy that presents them."""

    chain: str
    key: str


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How the clients of a service speak TLS. Paths are absolute and of the proxy's own machine."""

    mode: TlsMode = TlsMode.AUTO
    sni: str | None = None
    """None: the service's host."""
    subject_alt_names: tuple[str, ...] = ()
    """One of them the server's certificate must have; empty: the SNI."""
    ca_file: str | None = None
    """None: the system's roots."""
    crl_file: str | None = None
    certificate: CertificateFiles | None = None
    credential: str | None = None
    """Instead of files: a Secret in the namespace of the proxy that is the client."""
    skip_verify: bool = False
    origin: Origin | None = field(default=None, compare=False)


class H2Upgrade(Enum):
    """Whether plain HTTP ports are spoken to in HTTP/2."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


@dataclass(frozen=True, slots=True)
class TcpKeepalive:
    """None: as the operating system has it."""

    probes: int | None = None
    time: timedelta | None = None
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits of one proxy towards one service port; None: no limit, or Envoy's default for times."""

    connect_timeout: timedelta = timedelta(seconds=10)
    max_connections: int | None = None
    keepalive: TcpKeepalive | None = None
    tcp_idle_timeout: timedelta | None = None
    """Zero: never."""
    max_connection_duration: timedelta | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int = 0
    """Zero: any number."""
    max_retries: int | None = None
    """At one time, of all requests together."""
    http_idle_timeout: timedelta | None = None
    h2_upgrade: H2Upgrade = H2Upgrade.DEFAULT
    use_client_protocol: bool = False
    max_concurrent_streams: int | None = None


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is left alone for a while. None: Envoy's default."""

    consecutive_5xx: int | None = None
    """Zero: not counted."""
    consecutive_gateway_errors: int | None = None
    split_local_origin: bool = False
    """Failures to connect or shake hands are counted apart from answers."""
    consecutive_local_origin: int | None = None
    interval: timedelta | None = None
    base_ejection_time: timedelta | None = None
    max_ejection_percent: int = 10
    min_health_percent: int = 0
    """Below this share of good endpoints all are used again; zero: never."""
    error_codes: tuple[int, ...] = ()
    """The statuses that count as errors; empty: 500 to 599."""


class Simple(Enum):
    """How an endpoint is chosen, unless by hash."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


@dataclass(frozen=True, slots=True)
class HeaderHash:
    name: str


@dataclass(frozen=True, slots=True)
class CookieHash:
    """A cookie that the client has, or is given: for ``ttl``, zero for as long as its session lasts."""

    name: str
    ttl: timedelta
    path: str = ""


@dataclass(frozen=True, slots=True)
class SourceIpHash:
    pass


@dataclass(frozen=True, slots=True)
class QueryHash:
    name: str


@dataclass(frozen=True, slots=True)
class RingHash:
    minimum_size: int = 1024


@dataclass(frozen=True, slots=True)
class Maglev:
    """``table_size`` is a prime."""

    table_size: int = 65537


@dataclass(frozen=True, slots=True)
class ConsistentHash:
    key: HeaderHash | CookieHash | SourceIpHash | QueryHash
    table: RingHash | Maglev = RingHash()


@dataclass(frozen=True, slots=True)
class Warmup:
    """A new endpoint's share grows from ``minimum_percent`` to its whole within ``duration``."""

    duration: timedelta
    minimum_percent: float = 10.0
    aggression: float = 1.0
    """1: linear; more: faster at first."""


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    simple: Simple = Simple.LEAST_REQUEST
    consistent_hash: ConsistentHash | None = None
    warmup: Warmup | None = None


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """A trafficPolicy, or what several add up to; a block that nobody wrote is None."""

    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    load_balancer: LoadBalancer | None = None
    tls: ClientTls | None = None

    def overridden_by(self, other: TrafficPolicy) -> TrafficPolicy:
        """``other``'s blocks, each whole, and of this one those that ``other`` does not have."""
        return TrafficPolicy(
            other.connection_pool or self.connection_pool,
            other.outlier_detection or self.outlier_detection,
            other.load_balancer or self.load_balancer,
            other.tls or self.tls,
        )


@dataclass(frozen=True, slots=True)
class LeveledPolicy:
    """A trafficPolicy and those of single ports, by number of the service's port."""

    everywhere: TrafficPolicy = TrafficPolicy()
    ports: Mapping[int, TrafficPolicy] = field(default_factory=dict)

    def at(self, port: int) -> TrafficPolicy:
        """Settings of a port replace those of the service, also where they are silent."""
        return self.ports.get(port, self.everywhere)

    def within(self, service: LeveledPolicy, port: int) -> TrafficPolicy:
        """Of a subset: what it says, each block whole, over what its service says (Istio: MergeTrafficPolicy)."""
        if port in self.ports:
            return self.ports[port]
        return service.at(port).overridden_by(self.everywhere)
