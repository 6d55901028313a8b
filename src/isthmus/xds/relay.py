"""The relay: an Envoy in the machine's own network, by which sidecars in networks of their own reach what is outside.

For each address that such a sidecar may dial, a Unix socket whose bytes go there; and one more, an HTTP proxy for the
hosts that a program names itself. It knows nothing of the mesh: TLS, identity and routes are the sidecars'. Whoever can
open the sockets can use them, and the programs cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import Message, Package, any_of, duration
from isthmus.envoy_api.packages import (
    bootstrap_v3,
    cluster_dynamic_forward_proxy_v3,
    cluster_v3,
    core_v3,
    discovery_v3,
    dynamic_forward_proxy_common_v3,
    endpoint_v3,
    http_connection_manager_v3,
    http_dynamic_forward_proxy_v3,
    listener_v3,
    protobuf,
    rbac_config_v3,
    rbac_v3,
    route_v3,
    router_v3,
    tcp_proxy_v3,
    xds_core_v3,
)
from isthmus.model.world import Address
from isthmus.xds.address import is_name, socket_address
from isthmus.xds.bootstrap import build_runtime

RELAY_ID = "relay"
"""Envoy's node.id."""
ANYWHERE = "anywhere"
"""The HTTP proxy for hosts that nobody declared."""
_HCM = http_connection_manager_v3.HttpConnectionManager
_upstream_ip_port_v3 = Package("envoy.extensions.rbac.matchers.upstream_ip_port.v3")
_CONNECT_TIMEOUT = timedelta(seconds=10)
_UNLIMITED = 2**32 - 1
_OWN_ADDRESSES = (
    ("127.0.0.0", 8),
    ("0.0.0.0", 8),  # noqa: S104
    ("::1", 128),
    ("::", 128),
    ("::ffff:127.0.0.0", 104),
    ("::ffff:0.0.0.0", 104),
)
"""The machine itself: its loopback is what a network of one's own was to keep apart."""
_REFUSAL = "a loopback address of the machine: declare a ServiceEntry with it to reach it from an isolated workload\n"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """``folder``: of all sockets. ``clusters`` and ``listeners``: files that Envoy watches, each replaced whole."""

    folder: str
    admin_socket: str
    clusters: str
    listeners: str


def relay_socket(folder: str, address: Address | None) -> str:
    """The Unix socket that leads to ``address``; None: to whatever host a request names."""
    name = ANYWHERE if address is None else str(address)
    return f"{folder}/{hashlib.sha256(name.encode()).hexdigest()[:12]}.out"


def build_relay_bootstrap(settings: RelaySettings) -> Any:
    """An envoy.config.bootstrap.v3.Bootstrap."""
    return bootstrap_v3.Bootstrap(
        node=core_v3.Node(id=RELAY_ID, cluster=RELAY_ID),
        admin=bootstrap_v3.Admin(address=socket_address(Address.unix(settings.admin_socket))),
        dynamic_resources=bootstrap_v3.Bootstrap.DynamicResources(
            cds_config=_from_file(settings.clusters), lds_config=_from_file(settings.listeners)
        ),
        layered_runtime=build_runtime(),
    )


def _from_file(path: str) -> Any:
    return core_v3.ConfigSource(
        resource_api_version=core_v3.ApiVersion.Value("V3"),
        path_config_source=core_v3.PathConfigSource(path=path),
    )


def build_relay_clusters(targets: Iterable[Address]) -> Any:
    """An envoy.service.discovery.v3.DiscoveryResponse for the file of clusters."""
    return _response([_anywhere_cluster(), *(_target_cluster(target) for target in targets)])


def build_relay_listeners(settings: RelaySettings, targets: Iterable[Address]) -> Any:
    """An envoy.service.discovery.v3.DiscoveryResponse for the file of listeners."""
    anywhere = _listener(ANYWHERE, relay_socket(settings.folder, None), _http_proxy())
    return _response(
        [
            anywhere,
            *(_listener(str(to), relay_socket(settings.folder, to), _tcp_proxy(str(to))) for to in targets),
        ]
    )


def _response(resources: Sequence[Message]) -> Any:
    packed = [any_of(resource) for resource in resources]
    version = hashlib.sha256(b"\0".join(one.value for one in packed)).hexdigest()[:16]
    return discovery_v3.DiscoveryResponse(version_info=version, resources=packed)


def _listener(name: str, socket: str, filter_: Any) -> Any:
    return listener_v3.Listener(
        name=name,
        address=socket_address(Address.unix(socket)),
        filter_chains=[listener_v3.FilterChain(filters=[filter_])],
    )


def _tcp_proxy(cluster: str) -> Any:
    # How long a connection may idle is the sidecar's to say.
    config = tcp_proxy_v3.TcpProxy(stat_prefix="target", cluster=cluster, idle_timeout=duration(timedelta()))
    return listener_v3.Filter(name="envoy.filters.network.tcp_proxy", typed_config=any_of(config))


def _target_cluster(target: Address) -> Any:
    endpoint = endpoint_v3.LbEndpoint(endpoint=endpoint_v3.Endpoint(address=socket_address(target)))
    return cluster_v3.Cluster(
        name=str(target),
        type=cluster_v3.Cluster.STRICT_DNS if is_name(target.host) else cluster_v3.Cluster.STATIC,
        dns_lookup_family=cluster_v3.Cluster.V4_PREFERRED,
        connect_timeout=duration(_CONNECT_TIMEOUT),
        circuit_breakers=_no_limits(),
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=str(target), endpoints=[endpoint_v3.LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )


def _anywhere_cluster() -> Any:
    config = cluster_dynamic_forward_proxy_v3.ClusterConfig(dns_cache_config=_dns_cache())
    return cluster_v3.Cluster(
        name=ANYWHERE,
        connect_timeout=duration(_CONNECT_TIMEOUT),
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
        cluster_type=cluster_v3.Cluster.CustomClusterType(
            name="envoy.clusters.dynamic_forward_proxy", typed_config=any_of(config)
        ),
        circuit_breakers=_no_limits(),
    )


def _dns_cache() -> Any:
    """What the cluster may dial: of a host's addresses those that are not the machine itself.

    Envoy dials a host's next address where one does not answer, so that looking at the first would not do.
    """
    cache = _dns_cache_of(ANYWHERE)
    for address, length in _OWN_ADDRESSES:
        own = xds_core_v3.CidrRange(address_prefix=address, prefix_len=protobuf.UInt32Value(value=length))
        cache.resolved_address_filter.ranges.append(own)
    return cache


def _dns_cache_of(name: str) -> Any:
    return dynamic_forward_proxy_common_v3.DnsCacheConfig(name=name, dns_lookup_family=cluster_v3.Cluster.V4_PREFERRED)


def _lookup(cache: Any, **more: Any) -> Any:
    config = http_dynamic_forward_proxy_v3.FilterConfig(dns_cache_config=cache, **more)
    return _filter("envoy.filters.http.dynamic_forward_proxy", config)


def _no_limits() -> Any:
    """Limits are the sidecars'."""
    limit = protobuf.UInt32Value(value=_UNLIMITED)
    thresholds = cluster_v3.CircuitBreakers.Thresholds(
        max_connections=limit, max_pending_requests=limit, max_requests=limit, max_retries=limit
    )
    return cluster_v3.CircuitBreakers(thresholds=[thresholds])


def _http_proxy() -> Any:
    """A forward proxy that adds nothing to a request and takes nothing away."""
    hcm = _HCM(
        stat_prefix=ANYWHERE,
        codec_type=_HCM.AUTO,
        route_config=_anywhere_routes(),
        http_filters=[
            # The address goes to the filter after it, which looks at what DNS said, not at what was asked. Those two
            # are there for the words of a refusal: what is dialled, the next one's cache has.
            _lookup(_dns_cache_of("asked"), save_upstream_address=True),
            _filter("envoy.filters.http.rbac", _never_ourselves()),
            _lookup(_dns_cache()),
            _filter("envoy.filters.http.router", router_v3.Router(suppress_envoy_headers=True)),
        ],
        upgrade_configs=[_HCM.UpgradeConfig(upgrade_type=name) for name in ("CONNECT", "websocket")],
        server_header_transformation=_HCM.PASS_THROUGH,
        generate_request_id=protobuf.BoolValue(value=False),
        skip_xff_append=True,
        stream_idle_timeout=duration(timedelta()),
        local_reply_config=_explained(),
    )
    return listener_v3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(hcm))


def _filter(name: str, config: Message) -> Any:
    return http_connection_manager_v3.HttpFilter(name=name, typed_config=any_of(config))


def _anywhere_routes() -> Any:
    def to_host(**more: Any) -> Any:
        return route_v3.RouteAction(cluster=ANYWHERE, timeout=duration(timedelta()), **more)

    upgrade = route_v3.RouteAction.UpgradeConfig
    tunnel = upgrade(upgrade_type="CONNECT", connect_config=upgrade.ConnectConfig())
    return route_v3.RouteConfiguration(
        name=ANYWHERE,
        virtual_hosts=[
            route_v3.VirtualHost(
                name=ANYWHERE,
                domains=["*"],
                routes=[
                    route_v3.Route(
                        match=route_v3.RouteMatch(connect_matcher=route_v3.RouteMatch.ConnectMatcher()),
                        route=to_host(upgrade_configs=[tunnel]),
                    ),
                    route_v3.Route(match=route_v3.RouteMatch(prefix="/"), route=to_host()),
                ],
            )
        ],
    )


def _never_ourselves() -> Any:
    """An envoy.extensions.filters.http.rbac.v3.RBAC."""
    own = [
        rbac_config_v3.Permission(
            matcher=core_v3.TypedExtensionConfig(
                name="envoy.rbac.matchers.upstream_ip_port",
                typed_config=any_of(
                    _upstream_ip_port_v3.UpstreamIpPortMatcher(
                        upstream_ip=core_v3.CidrRange(
                            address_prefix=address, prefix_len=protobuf.UInt32Value(value=length)
                        )
                    )
                ),
            )
        )
        for address, length in _OWN_ADDRESSES
    ]
    policy = rbac_config_v3.Policy(permissions=own, principals=[rbac_config_v3.Principal(any=True)])
    return rbac_v3.RBAC(rules=rbac_config_v3.RBAC(action=rbac_config_v3.RBAC.DENY, policies={"own-addresses": policy}))


def _explained() -> Any:
    """Only our own refusals are local replies: what a host answers stays as it is."""
    refused = core_v3.RuntimeUInt32(default_value=403, runtime_key="relay.refused")
    mapper = http_connection_manager_v3.ResponseMapper()
    mapper.filter.status_code_filter.comparison.op = mapper.filter.status_code_filter.comparison.EQ
    mapper.filter.status_code_filter.comparison.value.CopyFrom(refused)
    mapper.body.inline_string = _REFUSAL
    return http_connection_manager_v3.LocalReplyConfig(mappers=[mapper])
