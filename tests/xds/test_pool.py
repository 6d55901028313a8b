from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import cluster_v3
from isthmus.model.traffic_policy import (
    ConnectionPool,
    ConsistentHash,
    HeaderHash,
    LoadBalancer,
    OutlierDetection,
    TcpKeepalive,
    TrafficPolicy,
)
from isthmus.xds.pool import HTTP_OPTIONS, add_connection_options, add_http_options, build_circuit_breakers

FULL = ConnectionPool(
    max_connections=1000,
    max_pending_requests=500,
    max_requests=2000,
    max_retries=3,
    tcp_idle_timeout=timedelta(seconds=7),
    max_connection_duration=timedelta(seconds=90),
    max_requests_per_connection=11,
    max_concurrent_streams=12,
)


def limits(pool: ConnectionPool | None) -> tuple[int, ...]:
    (one,) = build_circuit_breakers(pool).thresholds
    return one.max_connections.value, one.max_pending_requests.value, one.max_requests.value, one.max_retries.value


def http(traffic: TrafficPolicy, **how: bool) -> Any:
    built = cluster_v3.Cluster()
    add_http_options(built, traffic, **{"http2": False, **how})
    return unpack(built.typed_extension_protocol_options[HTTP_OPTIONS])


def test_limits() -> None:
    endless = 2**32 - 1
    assert limits(FULL) == (1000, 500, 2000, 3)
    assert limits(ConnectionPool(max_retries=1)) == (endless, endless, endless, 1)
    assert limits(None) == (endless,) * 4
    assert build_circuit_breakers(FULL).thresholds[0].track_remaining
    assert not build_circuit_breakers(None).thresholds[0].track_remaining


def test_keepalive_leaves_the_rest_to_the_system() -> None:
    built = cluster_v3.Cluster()
    add_connection_options(built, None)
    assert not built.HasField("upstream_connection_options")
    add_connection_options(built, TcpKeepalive(probes=3, interval=timedelta(seconds=4)))
    found = built.upstream_connection_options.tcp_keepalive
    assert (found.keepalive_probes.value, found.keepalive_interval.value) == (3, 4)
    assert not found.HasField("keepalive_time")


def test_connections_end() -> None:
    common = http(TrafficPolicy(connection_pool=FULL)).common_http_protocol_options
    assert common.idle_timeout.ToTimedelta() == timedelta(seconds=7), "TCP's counts where HTTP's is not given"
    assert common.max_connection_duration.ToTimedelta() == timedelta(seconds=90)
    assert common.max_requests_per_connection.value == 11
    own = ConnectionPool(tcp_idle_timeout=timedelta(seconds=7), http_idle_timeout=timedelta())
    common = http(TrafficPolicy(connection_pool=own)).common_http_protocol_options
    assert common.HasField("idle_timeout"), "zero is a value: never"
    assert common.idle_timeout.ToTimedelta() == timedelta()
    assert not http(TrafficPolicy()).HasField("common_http_protocol_options")


def test_streams() -> None:
    h2 = http(TrafficPolicy(connection_pool=FULL), http2=True).explicit_http_config.http2_protocol_options
    assert h2.max_concurrent_streams.value == 12
    h2 = http(TrafficPolicy(), http2=True).explicit_http_config.http2_protocol_options
    assert h2.max_concurrent_streams.value == 100
    both = http(TrafficPolicy(connection_pool=FULL), as_client=True).use_downstream_protocol_config
    assert both.http2_protocol_options.max_concurrent_streams.value == 12
    assert both.HasField("http_protocol_options")


def test_what_is_hashed_and_what_is_an_error_stand_in_the_cluster() -> None:
    traffic = TrafficPolicy(
        load_balancer=LoadBalancer(consistent_hash=ConsistentHash(HeaderHash("x-user"))),
        outlier_detection=OutlierDetection(error_codes=(429,)),
    )
    found = http(traffic)
    assert [one.header.header_name for one in found.hash_policy] == ["x-user"]
    assert found.outlier_detection.HasField("error_matcher")
    assert not http(TrafficPolicy(outlier_detection=OutlierDetection())).HasField("outlier_detection")
