"""``connectionPool``: circuit breakers, and how a cluster's connections are kept and spoken on."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import cluster_v3, core_v3, http_protocol_options_v3, protobuf
from isthmus.model.traffic_policy import ConnectionPool, TcpKeepalive, TrafficPolicy
from isthmus.xds.load_balancer import hash_policies, tcp_hash_policies
from isthmus.xds.outlier import build_error_matcher

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MOST_STREAMS = 100
"""Per h2 connection: a connection lives on one worker thread, so one endless connection would idle the others."""
_UNLIMITED = 2**32 - 1


def build_circuit_breakers(pool: ConnectionPool | None) -> Any:
    """Istio's default: no circuit breaker unless a DestinationRule sets one (Envoy's own would be 1,024)."""
    limits = pool or ConnectionPool()

    def limit(value: int | None) -> Any:
        return protobuf.UInt32Value(value=_UNLIMITED if value is None else value)

    thresholds = cluster_v3.CircuitBreakers.Thresholds(
        max_connections=limit(limits.max_connections),
        max_pending_requests=limit(limits.max_pending_requests),
        max_requests=limit(limits.max_requests),
        max_retries=limit(limits.max_retries),
        # How much is left can be watched; without limits there is nothing to see.
        track_remaining=pool is not None,
    )
    return cluster_v3.CircuitBreakers(thresholds=[thresholds])


def add_connection_options(built: Any, keepalive: TcpKeepalive | None) -> None:
    """TCP keepalive, where a rule asks for it; what it leaves out is the operating system's choice."""
    if keepalive is None:
        return
    options = core_v3.TcpKeepalive()
    if keepalive.probes is not None:
        options.keepalive_probes.value = keepalive.probes
    if keepalive.time is not None:
        options.keepalive_time.value = int(keepalive.time.total_seconds())
    if keepalive.interval is not None:
        options.keepalive_interval.value = int(keepalive.interval.total_seconds())
    built.upstream_connection_options.tcp_keepalive.CopyFrom(options)


def add_http_options(
    built: Any, traffic: TrafficPolicy, *, http2: bool, as_client: bool = False, sni: bool = False
) -> None:
    """How a cluster speaks HTTP. ``as_client``: in the version of who calls, whatever ``http2`` says.

    ``sni``: the server's name is that of the request, and its certificate must have it.
    """
    pool = traffic.connection_pool or ConnectionPool()
    options = http_protocol_options_v3.HttpProtocolOptions()
    h2 = core_v3.Http2ProtocolOptions(
        max_concurrent_streams=protobuf.UInt32Value(value=pool.max_concurrent_streams or _MOST_STREAMS)
    )
    if as_client:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(h2)
    elif http2:
        options.explicit_http_config.http2_protocol_options.CopyFrom(h2)
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    _add_common_options(options, pool)
    if sni:
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = True
    options.hash_policy.extend(hash_policies(traffic.load_balancer))
    if traffic.outlier_detection is not None and traffic.outlier_detection.error_codes:
        options.outlier_detection.error_matcher.CopyFrom(build_error_matcher(traffic.outlier_detection.error_codes))
    built.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(any_of(options))


def _add_common_options(options: Any, pool: ConnectionPool) -> None:
    idle = pool.http_idle_timeout if pool.http_idle_timeout is not None else pool.tcp_idle_timeout
    if idle is not None:
        options.common_http_protocol_options.idle_timeout.CopyFrom(duration(idle))
    if pool.max_connection_duration is not None:
        options.common_http_protocol_options.max_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    if pool.max_requests_per_connection:
        options.common_http_protocol_options.max_requests_per_connection.value = pool.max_requests_per_connection


def add_tcp_options(proxy: Any, traffic: TrafficPolicy) -> None:
    """What a TCP proxy (an envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy) does of it: a cluster cannot."""
    pool = traffic.connection_pool or ConnectionPool()
    if pool.tcp_idle_timeout is not None:
        proxy.idle_timeout.CopyFrom(duration(pool.tcp_idle_timeout))
    if pool.max_connection_duration is not None:
        proxy.max_downstream_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    proxy.hash_policy.extend(tcp_hash_policies(traffic.load_balancer))
