from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isthmus.envoy_api.packages import cluster_v3
from isthmus.model.traffic_policy import (
    ConsistentHash,
    CookieHash,
    HeaderHash,
    LoadBalancer,
    Maglev,
    QueryHash,
    RingHash,
    Simple,
    SourceIpHash,
    Warmup,
)
from isthmus.xds.load_balancer import add_load_balancer, hash_policies, tcp_hash_policies


def built(balancer: LoadBalancer | None) -> Any:
    cluster = cluster_v3.Cluster()
    add_load_balancer(cluster, balancer)
    return cluster


def policy(cluster: Any) -> str:
    return str(cluster.LbPolicy.Name(cluster.lb_policy))


def hashed(key: Any, table: Any = None) -> LoadBalancer:
    return LoadBalancer(consistent_hash=ConsistentHash(key, table or RingHash()))


def test_simple_ones() -> None:
    assert policy(built(None)) == "LEAST_REQUEST"
    assert [policy(built(LoadBalancer(one))) for one in Simple] == ["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"]


def test_tables() -> None:
    ring = built(hashed(HeaderHash("x"), RingHash(2048)))
    assert (policy(ring), ring.ring_hash_lb_config.minimum_ring_size.value) == ("RING_HASH", 2048)
    maglev = built(hashed(HeaderHash("x"), Maglev(251)))
    assert (policy(maglev), maglev.maglev_lb_config.table_size.value) == ("MAGLEV", 251)


@pytest.mark.parametrize("simple", [Simple.ROUND_ROBIN, Simple.LEAST_REQUEST])
def test_warmup(simple: Simple) -> None:
    cluster = built(LoadBalancer(simple, warmup=Warmup(timedelta(seconds=30), 5.0, 2.0)))
    name = {Simple.ROUND_ROBIN: "round_robin_lb_config", Simple.LEAST_REQUEST: "least_request_lb_config"}[simple]
    slow = getattr(cluster, name).slow_start_config
    assert slow.slow_start_window.ToTimedelta() == timedelta(seconds=30)
    assert (slow.min_weight_percent.value, slow.aggression.default_value) == (5.0, 2.0)


def test_what_is_hashed() -> None:
    assert hash_policies(None) == hash_policies(LoadBalancer()) == []
    (header,) = hash_policies(hashed(HeaderHash("x-user")))
    assert header.header.header_name == "x-user"
    (cookie,) = hash_policies(hashed(CookieHash("sticky", timedelta(), "/")))
    assert (cookie.cookie.name, cookie.cookie.path, cookie.cookie.HasField("ttl")) == ("sticky", "/", True)
    (address,) = hash_policies(hashed(SourceIpHash()))
    assert address.connection_properties.source_ip
    (query,) = hash_policies(hashed(QueryHash("user")))
    assert query.query_parameter.name == "user"


def test_of_a_plain_connection_only_the_address_is_known() -> None:
    assert len(tcp_hash_policies(hashed(SourceIpHash()))) == 1
    assert tcp_hash_policies(hashed(HeaderHash("x"))) == tcp_hash_policies(LoadBalancer()) == []
    assert tcp_hash_policies(None) == []
