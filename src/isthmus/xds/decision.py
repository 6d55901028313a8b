"""The clusters of the node's decision services, which answer on Unix sockets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import cluster_v3, core_v3, endpoint_v3, http_protocol_options_v3, protobuf
from isthmus.model.decision import DecisionService
from isthmus.model.world import Address
from isthmus.xds.address import socket_address
from isthmus.xds.context import Context
from isthmus.xds.snapshot import Built, build

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT = timedelta(milliseconds=500)
_MOST = 1 << 20
"""Requests under way: who has too many is for limits to say, not for a breaker on the way to a decision."""


def decision_cluster(service: DecisionService) -> str:
    """The cluster's name."""
    return f"isthmus_{service.value}"


def build_decision_clusters(context: Context) -> Iterator[Built]:
    """One for each service that runs beside the proxy, with an endpoint for each of its processes."""
    for service in DecisionService:
        addresses = tuple(_addresses(context, service))
        if addresses:
            name = decision_cluster(service)
            yield build(name, _build_cluster(name, addresses), (context.proxy.origin,))


def _addresses(context: Context, service: DecisionService) -> Iterator[Address]:
    index = 0
    while (address := context.world.address(context.proxy.id, service.value, index)) is not None:
        yield address
        index += 1


def _build_cluster(name: str, addresses: tuple[Address, ...]) -> Any:
    endpoints = [
        endpoint_v3.LbEndpoint(endpoint=endpoint_v3.Endpoint(address=socket_address(address))) for address in addresses
    ]
    most = protobuf.UInt32Value(value=_MOST)
    thresholds = cluster_v3.CircuitBreakers.Thresholds(
        max_connections=most, max_pending_requests=most, max_requests=most, max_retries=most
    )
    cluster = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(_CONNECT),
        lb_policy=cluster_v3.Cluster.LEAST_REQUEST,
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=name, endpoints=[endpoint_v3.LocalityLbEndpoints(lb_endpoints=endpoints)]
        ),
        circuit_breakers=cluster_v3.CircuitBreakers(thresholds=[thresholds]),
    )
    options = http_protocol_options_v3.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_v3.HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=core_v3.Http2ProtocolOptions()
        )
    )
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(any_of(options))
    return cluster
