"""Clusters: one per service port and subset, never per route."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    cluster_dynamic_forward_proxy_v3,
    cluster_v3,
    core_v3,
    http_protocol_options_v3,
    protobuf,
    raw_buffer_v3,
    type_v3,
)
from isthmus.filters.dynamic_forward_proxy import DynamicForwardProxy, dns_cache
from isthmus.model.cluster import Protocol, Resolution, Service, ServicePort, Subset, TlsMode
from isthmus.model.world import Address
from isthmus.xds import tls
from isthmus.xds.address import is_name
from isthmus.xds.endpoint import ISTIO, TLS_MODE, Backend, build_load_assignment
from isthmus.xds.name import BLACK_HOLE, PASSTHROUGH, inbound_cluster, outbound_cluster

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_BUFFER_BYTES = 32768
"""Envoy's edge advice: per connection, so that slow readers cannot fill memory."""
_MOST_STREAMS = 100
"""Per h2 connection: a connection lives on one worker thread, so one endless connection would idle the others."""
_UNLIMITED = 2**32 - 1


def mutual_tls_wanted(service: Service, port: ServicePort, subset: Subset | None) -> TlsMode:
    """What DestinationRules say, most specific first: subset, port, service."""
    if subset is not None and subset.tls_mode is not None:
        return subset.tls_mode
    by_port = (service.policy.port_tls_modes or {}).get(port.number)
    if by_port is not None:
        return by_port
    mode = service.policy.tls_mode
    return TlsMode.DISABLE if mode is TlsMode.AUTO and service.external else mode


def build_outbound(service: Service, port: ServicePort, subset: Subset | None, found: tuple[Backend, ...]) -> Any:
    """The cluster of callers: EDS for workloads, DNS or the endpoints in place otherwise."""
    name = outbound_cluster(service.host, port.number, subset.name if subset else None)
    mode = mutual_tls_wanted(service, port, subset)
    secured = mode is TlsMode.ISTIO_MUTUAL or (
        mode is TlsMode.AUTO and bool(found) and all(backend.mutual_tls for backend in found)
    )
    built = cluster_v3.Cluster(
        name=name,
        connect_timeout=duration(service.policy.connect_timeout),
        lb_policy=cluster_v3.Cluster.LEAST_REQUEST,
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        circuit_breakers=_no_limits(),
        common_lb_config=cluster_v3.Cluster.CommonLbConfig(healthy_panic_threshold=_percent(0)),
    )
    if port.protocol.is_http:
        _add_http_options(built, http2=secured or port.protocol.is_http2)
    _add_endpoints(built, service, found)
    _add_security(built, mode, found, f"outbound_.{port.number}_._.{service.host}", port.protocol)
    return built


def _add_endpoints(built: Any, service: Service, found: tuple[Backend, ...]) -> None:
    # Workloads elsewhere may be declared by name, and EDS takes addresses only.
    named = any(is_name(backend.address.host) for backend in found)
    if service.resolution is Resolution.WORKLOADS and not named:
        built.type = cluster_v3.Cluster.EDS
        built.eds_cluster_config.CopyFrom(
            cluster_v3.Cluster.EdsClusterConfig(eds_config=ads(), service_name=built.name)
        )
        return
    if named or service.resolution is Resolution.DNS:
        built.type = cluster_v3.Cluster.STRICT_DNS
        # Envoy's own choice is the other way round: whoever listens on IPv4 only could not be reached by name.
        built.dns_lookup_family = cluster_v3.Cluster.V4_PREFERRED
    else:
        built.type = cluster_v3.Cluster.STATIC
    built.load_assignment.CopyFrom(build_load_assignment(built.name, found))


def _add_security(built: Any, mode: TlsMode, found: tuple[Backend, ...], sni: str, protocol: Protocol) -> None:
    """Mutual TLS for all, for none, or endpoint by endpoint (Istio's auto mTLS)."""
    identities = sorted({backend.identity for backend in found if backend.mutual_tls and backend.identity})
    if mode is TlsMode.DISABLE or not identities:
        # ISTIO_MUTUAL without a known identity must not fall back to plaintext: nobody is who is meant.
        if mode is TlsMode.ISTIO_MUTUAL:
            built.transport_socket.CopyFrom(tls.mesh_client([_NOBODY], sni, _alpn(protocol)))
        return
    secured = tls.mesh_client(identities, sni, _alpn(protocol))
    if mode is TlsMode.ISTIO_MUTUAL:
        built.transport_socket.CopyFrom(secured)
        return
    wanted = protobuf.Struct()
    wanted.update({TLS_MODE: ISTIO})
    match = cluster_v3.Cluster.TransportSocketMatch
    plain = core_v3.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=any_of(raw_buffer_v3.RawBuffer())
    )
    built.transport_socket_matches.extend(
        [
            match(name="tlsMode-istio", match=wanted, transport_socket=secured),
            match(name="tlsMode-disabled", match=protobuf.Struct(), transport_socket=plain),
        ]
    )


_NOBODY = "spiffe://nobody.invalid/"


def _alpn(protocol: Protocol) -> tuple[str, ...]:
    return ("istio-h2", "h2") if protocol.is_http else ("istio",)


def build_inbound(port: int, app: Address, protocol: Protocol) -> Any:
    """The program behind a sidecar."""
    name = inbound_cluster(port)
    built = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=10)),
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        circuit_breakers=_no_limits(),
        load_assignment=build_load_assignment(name, (Backend(app, False, None, 1, {}),)),
    )
    if protocol.is_http:
        _add_http_options(built, http2=protocol.is_http2)
    return built


def build_black_hole() -> Any:
    """A cluster without endpoints."""
    return cluster_v3.Cluster(
        name=BLACK_HOLE,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=1)),
        load_assignment=build_load_assignment(BLACK_HOLE, ()),
    )


def build_passthrough() -> Any:
    """Whatever host the program itself names, resolved when asked for."""
    config = cluster_dynamic_forward_proxy_v3.ClusterConfig(dns_cache_config=dns_cache(DynamicForwardProxy()))
    return cluster_v3.Cluster(
        name=PASSTHROUGH,
        connect_timeout=duration(timedelta(seconds=10)),
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
        cluster_type=cluster_v3.Cluster.CustomClusterType(
            name="envoy.clusters.dynamic_forward_proxy", typed_config=any_of(config)
        ),
        circuit_breakers=_no_limits(),
    )


def _add_http_options(built: Any, *, http2: bool) -> None:
    explicit = http_protocol_options_v3.HttpProtocolOptions.ExplicitHttpConfig()
    if http2:
        explicit.http2_protocol_options.CopyFrom(
            core_v3.Http2ProtocolOptions(max_concurrent_streams=protobuf.UInt32Value(value=_MOST_STREAMS))
        )
    else:
        explicit.http_protocol_options.SetInParent()
    options = http_protocol_options_v3.HttpProtocolOptions(explicit_http_config=explicit)
    built.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(any_of(options))


def _no_limits() -> Any:
    """Istio's default: no circuit breaker unless a DestinationRule sets one (Envoy's own would be 1,024)."""
    limit = protobuf.UInt32Value(value=_UNLIMITED)
    return cluster_v3.CircuitBreakers(
        thresholds=[
            cluster_v3.CircuitBreakers.Thresholds(
                max_connections=limit, max_pending_requests=limit, max_requests=limit, max_retries=limit
            )
        ]
    )


def _percent(value: float) -> Any:
    return type_v3.Percent(value=value)


def ads() -> Any:
    """The config source that means: on the stream that this came by."""
    return core_v3.ConfigSource(
        ads=core_v3.AggregatedConfigSource(), resource_api_version=core_v3.ApiVersion.Value("V3")
    )
