"""CONNECT at the outbound proxy: the tunnel ends here, and what it carries is treated as if it had come by itself.

To an HTTP port it carries requests: they are fed to a listener within the same Envoy, where they get the caller's
routes by their own Host, as those that come to the proxy plainly. To any other port it carries a connection: that goes
on to the service, or to a listener within, where ``tcp`` and ``tls`` routes choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import cluster_v3, core_v3, endpoint_v3, protobuf, route_v3
from isthmus.xds.listener import Chain, build_internal_listener

_UPGRADE = "CONNECT"
_BUFFER_BYTES = 32768


def _match() -> Any:
    return route_v3.RouteMatch(connect_matcher=route_v3.RouteMatch.ConnectMatcher())


def connect_to(cluster: str) -> Any:
    """The route that ends a CONNECT and sends what it carries to ``cluster``."""
    upgrade = route_v3.RouteAction.UpgradeConfig(
        upgrade_type=_UPGRADE, connect_config=route_v3.RouteAction.UpgradeConfig.ConnectConfig()
    )
    action = route_v3.RouteAction(cluster=cluster, timeout=duration(timedelta()), upgrade_configs=[upgrade])
    return route_v3.Route(name="connect", match=_match(), route=action)


def refuse_connect(status: int, message: str) -> Any:
    """The route that refuses a CONNECT."""
    refusal = route_v3.DirectResponseAction(status=status, body=core_v3.DataSource(inline_string=message))
    return route_v3.Route(name="block_all", match=_match(), direct_response=refusal)


def build_inner(name: str, chains: Sequence[Chain], unmatched_log: Any) -> tuple[Any, Any]:
    """A listener within this Envoy and the cluster of the same name that leads to it."""
    address = core_v3.Address(envoy_internal_address=core_v3.EnvoyInternalAddress(server_listener_name=name))
    endpoint = endpoint_v3.LbEndpoint(
        endpoint=endpoint_v3.Endpoint(address=address), load_balancing_weight=protobuf.UInt32Value(value=1)
    )
    unlimited = protobuf.UInt32Value(value=2**32 - 1)
    cluster = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=10)),
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        circuit_breakers=cluster_v3.CircuitBreakers(
            thresholds=[
                cluster_v3.CircuitBreakers.Thresholds(
                    max_connections=unlimited, max_pending_requests=unlimited, max_requests=unlimited
                )
            ]
        ),
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=name, endpoints=[endpoint_v3.LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
    return build_internal_listener(name, chains, unmatched_log), cluster
