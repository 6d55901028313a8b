"""``connectionPool``: how many connections and requests there may be at once, and how long they live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import Reader, boolean, enum_of, fail, later, optional, record
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.destination_rule.amount import LIMIT, duration_or_zero, seconds, whole
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.traffic_policy import ConnectionPool, H2Upgrade, TcpKeepalive

_MOST_REQUESTS_PER_CONNECTION = 2**29
_DEFAULT = ConnectionPool()


@dataclass(frozen=True, slots=True)
class _Keepalive:
    at: Node
    probes: int | None
    time: timedelta | None
    interval: timedelta | None


@dataclass(frozen=True, slots=True)
class _Tcp:
    at: Node
    connect_timeout: timedelta | None
    max_connections: int | None
    tcp_keepalive: _Keepalive | None
    idle_timeout: timedelta | None
    max_connection_duration: timedelta | None


@dataclass(frozen=True, slots=True)
class _Http:
    at: Node
    http1_max_pending_requests: int | None
    http2_max_requests: int | None
    max_requests_per_connection: int
    max_retries: int | None
    idle_timeout: timedelta | None
    h2_upgrade_policy: H2Upgrade
    use_client_protocol: bool
    max_concurrent_streams: int | None


@dataclass(frozen=True, slots=True)
class _Pool:
    at: Node
    tcp: _Tcp | None
    http: _Http | None


_KEEPALIVE = record(
    _Keepalive,
    optional("probes", whole(1, 127)),
    optional("time", seconds),
    optional("interval", seconds),
)
_TCP = record(
    _Tcp,
    optional("connectTimeout", positive_duration, note="by default 10s"),
    optional("maxConnections", LIMIT),
    optional("tcpKeepalive", _KEEPALIVE),
    optional("idleTimeout", duration_or_zero, note="of HTTP, too, where http.idleTimeout is silent; 0s: never"),
    optional("maxConnectionDuration", positive_duration),
)
_HTTP = record(
    _Http,
    optional("http1MaxPendingRequests", LIMIT, note="requests that wait for a connection"),
    optional("http2MaxRequests", LIMIT, note="requests at one time, of any HTTP version"),
    optional("maxRequestsPerConnection", whole(0, _MOST_REQUESTS_PER_CONNECTION), 0, note="0: any number"),
    optional("maxRetries", LIMIT, note="at one time, of all requests together"),
    optional("idleTimeout", duration_or_zero, note="by default 1h; 0s: never"),
    optional(
        "h2UpgradePolicy",
        enum_of(H2Upgrade),
        H2Upgrade.DEFAULT,
        note="DEFAULT is HTTP/2 between proxies and the port's protocol elsewhere",
    ),
    optional(
        "useClientProtocol", boolean, False, note="towards endpoints without a proxy; between proxies HTTP/2 stays"
    ),
    optional("maxConcurrentStreams", LIMIT, note="on one HTTP/2 connection; by default 100"),
    later("http2KeepAlive"),
)


def _pool(written: _Pool, node: Node, report: Report) -> ConnectionPool:
    tcp, http = written.tcp, written.http
    if http is not None and http.use_client_protocol and http.h2_upgrade_policy is not H2Upgrade.DEFAULT:
        raise fail(report, http.at.at("useClientProtocol"), "h2UpgradePolicy fixes the protocol: give only one of both")
    keepalive = tcp.tcp_keepalive if tcp is not None else None
    return ConnectionPool(
        connect_timeout=(tcp.connect_timeout if tcp is not None else None) or _DEFAULT.connect_timeout,
        max_connections=tcp.max_connections if tcp is not None else None,
        keepalive=TcpKeepalive(keepalive.probes, keepalive.time, keepalive.interval) if keepalive is not None else None,
        tcp_idle_timeout=tcp.idle_timeout if tcp is not None else None,
        max_connection_duration=tcp.max_connection_duration if tcp is not None else None,
        max_pending_requests=http.http1_max_pending_requests if http is not None else None,
        max_requests=http.http2_max_requests if http is not None else None,
        max_requests_per_connection=http.max_requests_per_connection if http is not None else 0,
        max_retries=http.max_retries if http is not None else None,
        http_idle_timeout=http.idle_timeout if http is not None else None,
        h2_upgrade=http.h2_upgrade_policy if http is not None else H2Upgrade.DEFAULT,
        use_client_protocol=http is not None and http.use_client_protocol,
        max_concurrent_streams=http.max_concurrent_streams if http is not None else None,
    )


CONNECTION_POOL: Reader[ConnectionPool] = converted(
    record(_Pool, optional("tcp", _TCP), optional("http", _HTTP)),
    _pool,
)
