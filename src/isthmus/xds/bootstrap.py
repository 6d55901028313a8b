"""The file that an Envoy starts with: who it is, where the control plane and the agent are, how it may be looked into.

It holds no secret: the key comes by SDS. Everything else comes by delta ADS.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import Package, any_of, duration
from isthmus.envoy_api.packages import (
    bootstrap_v3,
    cluster_v3,
    core_v3,
    downstream_connections_v3,
    endpoint_v3,
    http_protocol_options_v3,
    internal_listener_v3,
    matcher_v3,
    metrics_v3,
    otel_stat_sink_v3,
    overload_v3,
    protobuf,
    tls_v3,
)
from isthmus.model.metric import ENVOY_STAT_ENDINGS, ENVOY_STAT_PARTS, ENVOY_STATS
from isthmus.model.world import Address
from isthmus.xds.address import is_name, socket_address
from isthmus.xds.name import METRICS_EXPORT
from isthmus.xds.resource import resource_detectors
from isthmus.xds.secret import ROOT_CA, SDS_CLUSTER, SVID, grpc_service, sds_secret

XDS_CLUSTER = "xds"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SOCKET_MODE = 0o600
_MOST_SECRETS = 1 << 20
_METRICS_INTERVAL = timedelta(seconds=10)
_KEEPALIVE_INTERVAL = timedelta(seconds=30)
_KEEPALIVE_TIMEOUT = timedelta(seconds=10)
_fixed_heap_v3 = Package("envoy.extensions.resource_monitors.fixed_heap.v3")


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """What one Envoy's bootstrap depends on. Unix socket paths are absolute, at most 107 bytes (``sun_path``)."""

    proxy_id: str
    name: str
    namespace: str
    admin_socket: str
    sds_socket: str
    ads: Address
    control_plane_id: str
    """The SPIFFE ID that the ADS server must prove."""
    metrics_socket: str = ""
    """Where metrics are exported to, as far as anybody listens there (``xds/metrics_export.py``); empty: nowhere."""
    max_connections: int = 50_000
    """Downstream connections over all listeners; the next ones are closed at once."""
    max_heap_bytes: int = 1 << 30
    """At 95 % of it memory is given back, at 98 % requests are answered 503."""


def build_bootstrap(settings: BootstrapSettings) -> Any:
    """An envoy.config.bootstrap.v3.Bootstrap. Pure: the same settings give the same message."""
    version = core_v3.ApiVersion.Value("V3")
    over_ads = core_v3.ConfigSource(ads=core_v3.AggregatedConfigSource(), resource_api_version=version)
    return bootstrap_v3.Bootstrap(
        node=_node(settings),
        admin=bootstrap_v3.Admin(
            address=core_v3.Address(pipe=core_v3.Pipe(path=settings.admin_socket, mode=_SOCKET_MODE)),
            # An Envoy at its limit must still say so.
            ignore_global_conn_limit=True,
        ),
        static_resources=bootstrap_v3.Bootstrap.StaticResources(
            clusters=[
                build_agent_cluster(settings.sds_socket),
                _control_plane_cluster(settings),
                *_metrics_clusters(settings),
            ]
        ),
        dynamic_resources=bootstrap_v3.Bootstrap.DynamicResources(
            ads_config=core_v3.ApiConfigSource(
                api_type=core_v3.ApiConfigSource.DELTA_GRPC,
                transport_api_version=version,
                set_node_on_first_message_only=True,
                grpc_services=[grpc_service(XDS_CLUSTER)],
            ),
            cds_config=over_ads,
            lds_config=over_ads,
        ),
        overload_manager=_overload(settings),
        layered_runtime=build_runtime(),
        stats_config=_stats(),
        stats_sinks=_metrics_sinks(settings),
        stats_flush_interval=duration(_METRICS_INTERVAL),
        bootstrap_extensions=[build_internal_listener_extension()],
    )


def _node(settings: BootstrapSettings) -> Any:
    metadata = protobuf.Struct()
    metadata.update({"namespace": settings.namespace})
    return core_v3.Node(id=settings.proxy_id, cluster=f"{settings.name}.{settings.namespace}", metadata=metadata)


def _http2(keepalive: bool) -> Any:
    options = core_v3.Http2ProtocolOptions()
    if keepalive:
        # A control plane that vanished without a FIN (another machine, a sleeping laptop) is noticed and dialled anew.
        options.connection_keepalive.CopyFrom(
            core_v3.KeepaliveSettings(interval=duration(_KEEPALIVE_INTERVAL), timeout=duration(_KEEPALIVE_TIMEOUT))
        )
    return any_of(
        http_protocol_options_v3.HttpProtocolOptions(
            explicit_http_config=http_protocol_options_v3.HttpProtocolOptions.ExplicitHttpConfig(
                http2_protocol_options=options
            )
        )
    )


def _grpc_cluster(name: str, address: Any, *, keepalive: bool) -> Any:
    endpoint = endpoint_v3.LbEndpoint(endpoint=endpoint_v3.Endpoint(address=address))
    built = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=2)),
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=name, endpoints=[endpoint_v3.LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
    built.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(_http2(keepalive))
    return built


def build_agent_cluster(sds_socket: str) -> Any:
    """Plaintext: the socket is this proxy's own, in a folder that only its user may enter."""
    built = _grpc_cluster(SDS_CLUSTER, _pipe(sds_socket), keepalive=False)
    # Every secret has a stream of its own: Envoy's 1024 requests at a time would leave the next ones without.
    most = protobuf.UInt32Value(value=_MOST_SECRETS)
    built.circuit_breakers.thresholds.append(
        cluster_v3.CircuitBreakers.Thresholds(max_connections=most, max_pending_requests=most, max_requests=most)
    )
    return built


def _pipe(path: str) -> Any:
    return core_v3.Address(pipe=core_v3.Pipe(path=path))


def _control_plane_cluster(settings: BootstrapSettings) -> Any:
    """Mutual TLS: the peer must be the control plane itself, not just somebody of the mesh."""
    only_control_plane = tls_v3.SubjectAltNameMatcher(
        san_type=tls_v3.SubjectAltNameMatcher.URI,
        matcher=matcher_v3.StringMatcher(exact=settings.control_plane_id),
    )
    context = tls_v3.UpstreamTlsContext(
        common_tls_context=tls_v3.CommonTlsContext(
            tls_params=tls_v3.TlsParameters(
                tls_minimum_protocol_version=tls_v3.TlsParameters.TlsProtocol.Value("TLSv1_3"),
                tls_maximum_protocol_version=tls_v3.TlsParameters.TlsProtocol.Value("TLSv1_3"),
            ),
            alpn_protocols=["h2"],
            tls_certificate_sds_secret_configs=[sds_secret(SVID)],
            combined_validation_context=tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
                default_validation_context=tls_v3.CertificateValidationContext(
                    match_typed_subject_alt_names=[only_control_plane]
                ),
                validation_context_sds_secret_config=sds_secret(ROOT_CA),
            ),
        )
    )
    built = _grpc_cluster(XDS_CLUSTER, socket_address(settings.ads), keepalive=True)
    built.transport_socket.CopyFrom(
        core_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(context))
    )
    if is_name(settings.ads.host):
        built.type = cluster_v3.Cluster.STRICT_DNS
    return built


def _overload(settings: BootstrapSettings) -> Any:
    """Limits of the whole process (Envoy's edge best practices, "overload manager" and "global connection limit")."""
    connections = downstream_connections_v3.DownstreamConnectionsConfig(
        max_active_downstream_connections=settings.max_connections
    )
    heap = _fixed_heap_v3.FixedHeapConfig(max_heap_size_bytes=settings.max_heap_bytes)
    return overload_v3.OverloadManager(
        refresh_interval=duration(timedelta(milliseconds=250)),
        resource_monitors=[
            overload_v3.ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections", typed_config=any_of(connections)
            ),
            overload_v3.ResourceMonitor(name="envoy.resource_monitors.fixed_heap", typed_config=any_of(heap)),
        ],
        actions=[
            _at_heap("envoy.overload_actions.shrink_heap", 0.95),
            _at_heap("envoy.overload_actions.stop_accepting_requests", 0.98),
        ],
    )


def _at_heap(action: str, fraction: float) -> Any:
    trigger = overload_v3.Trigger(
        name="envoy.resource_monitors.fixed_heap", threshold=overload_v3.ThresholdTrigger(value=fraction)
    )
    return overload_v3.OverloadAction(name=action, triggers=[trigger])


def build_internal_listener_extension() -> Any:
    """What an Envoy needs to take connections from itself: CONNECT and layer-4 routes of the outbound proxy do."""
    return core_v3.TypedExtensionConfig(
        name="envoy.bootstrap.internal_listener", typed_config=any_of(internal_listener_v3.InternalListener())
    )


def _stats() -> Any:
    """Only what is documented: every service has some two hundred statistics more, at every proxy."""
    kept = [
        *(matcher_v3.StringMatcher(prefix=name) for name in ENVOY_STATS),
        *(matcher_v3.StringMatcher(suffix=name) for name in ENVOY_STAT_ENDINGS),
        *(matcher_v3.StringMatcher(contains=name) for name in ENVOY_STAT_PARTS),
    ]
    return metrics_v3.StatsConfig(
        stats_matcher=metrics_v3.StatsMatcher(inclusion_list=matcher_v3.ListStringMatcher(patterns=kept))
    )


def _metrics_clusters(settings: BootstrapSettings) -> list[Any]:
    if not settings.metrics_socket:
        return []
    return [_grpc_cluster(METRICS_EXPORT, _pipe(settings.metrics_socket), keepalive=False)]


def _metrics_sinks(settings: BootstrapSettings) -> list[Any]:
    """Cumulative values: an export that is lost loses nothing."""
    if not settings.metrics_socket:
        return []
    about = {
        "service.name": f"{settings.name}.{settings.namespace}",
        "service.namespace": settings.namespace,
        "service.instance.id": settings.proxy_id,
    }
    config = otel_stat_sink_v3.SinkConfig(
        grpc_service=core_v3.GrpcService(envoy_grpc=core_v3.GrpcService.EnvoyGrpc(cluster_name=METRICS_EXPORT)),
        resource_detectors=resource_detectors(about),
        emit_tags_as_attributes=protobuf.BoolValue(value=True),
        use_tag_extracted_name=protobuf.BoolValue(value=True),
    )
    return [metrics_v3.StatsSink(name="envoy.stat_sinks.open_telemetry", typed_config=any_of(config))]


def build_runtime() -> Any:
    """An envoy.config.bootstrap.v3.LayeredRuntime."""
    flags = protobuf.Struct()
    flags.update(
        {
            # Off by default in 1.39: a bare LF in a chunk extension reads differently at the next hop (smuggling).
            "envoy.reloadable_features.strict_chunk_parsing": True,
            # Login cookies: the older sealing can be opened by asking often enough (CVE-2026-47775); no old ones exist.
            "envoy.reloadable_features.oauth2_use_gcm_encryption": True,
            "envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat": False,
            # Envoy refuses regular expressions beyond 100 instructions, which `a{101}` is; Istio sets this limit too.
            "re2.max_program_size.error_level": 32768,
        }
    )
    return bootstrap_v3.LayeredRuntime(layers=[bootstrap_v3.RuntimeLayer(name="isthmus", static_layer=flags)])
