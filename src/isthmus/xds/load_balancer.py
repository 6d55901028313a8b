"""``loadBalancer`` in Envoy's form: the cluster's policy, and what of a request is hashed."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import cluster_v3, core_v3, route_v3, type_v3
from isthmus.model.traffic_policy import (
    CookieHash,
    HeaderHash,
    LoadBalancer,
    QueryHash,
    RingHash,
    Simple,
    SourceIpHash,
    Warmup,
)

_DEFAULT = LoadBalancer()


def add_load_balancer(built: Any, balancer: LoadBalancer | None) -> None:
    """Which endpoint is next. Envoy hashes with xxHash, so that every proxy sends the same key to the same endpoint."""
    wanted = balancer or _DEFAULT
    if wanted.consistent_hash is not None:
        table = wanted.consistent_hash.table
        if isinstance(table, RingHash):
            built.lb_policy = cluster_v3.Cluster.RING_HASH
            built.ring_hash_lb_config.minimum_ring_size.value = table.minimum_size
        else:
            built.lb_policy = cluster_v3.Cluster.MAGLEV
            built.maglev_lb_config.table_size.value = table.table_size
        return
    built.lb_policy = cluster_v3.Cluster.LbPolicy.Value(wanted.simple.value)
    if wanted.warmup is not None:
        config = built.round_robin_lb_config if wanted.simple is Simple.ROUND_ROBIN else built.least_request_lb_config
        config.slow_start_config.CopyFrom(_slow_start(wanted.warmup))


def _slow_start(warmup: Warmup) -> Any:
    return cluster_v3.Cluster.SlowStartConfig(
        slow_start_window=duration(warmup.duration),
        aggression=core_v3.RuntimeDouble(default_value=warmup.aggression, runtime_key="warmup.aggression"),
        min_weight_percent=type_v3.Percent(value=warmup.minimum_percent),
    )


def hash_policies(balancer: LoadBalancer | None) -> list[Any]:
    """What of an HTTP request decides, for the cluster's own options; a request without it goes anywhere."""
    if balancer is None or balancer.consistent_hash is None:
        return []
    policy = route_v3.RouteAction.HashPolicy()
    match balancer.consistent_hash.key:
        case HeaderHash(name):
            policy.header.header_name = name
        case CookieHash(name, ttl, path):
            policy.cookie.name = name
            policy.cookie.ttl.CopyFrom(duration(ttl))
            policy.cookie.path = path
        case SourceIpHash():
            policy.connection_properties.source_ip = True
        case QueryHash(name):
            policy.query_parameter.name = name
    return [policy]


def tcp_hash_policies(balancer: LoadBalancer | None) -> list[Any]:
    """The same for plain connections, of which only the address is known."""
    if balancer is None or balancer.consistent_hash is None:
        return []
    if not isinstance(balancer.consistent_hash.key, SourceIpHash):
        return []
    return [type_v3.HashPolicy(source_ip=type_v3.HashPolicy.SourceIp())]
