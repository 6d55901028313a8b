from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.traffic_policy import ConnectionPool, H2Upgrade, TcpKeepalive


def pool(written: str) -> Compiled:
    """``written`` begins at 6:35."""
    spec = f"host: orders\ntrafficPolicy: {{connectionPool: {{{written}}}}}"
    return compiled(networking("DestinationRule", spec, "orders"), ORDERS)


def read(done: Compiled) -> ConnectionPool | None:
    return done.mesh.services["orders.shop.svc.cluster.local"].policy.traffic.everywhere.connection_pool


def test_everything() -> None:
    done = pool(
        "tcp: {maxConnections: 1000, connectTimeout: 2s, idleTimeout: 0s, maxConnectionDuration: 1h, "
        "tcpKeepalive: {probes: 3, time: 30s, interval: 5s}}, "
        "http: {http1MaxPendingRequests: 500, http2MaxRequests: 2000, maxRetries: 3, maxRequestsPerConnection: 10, "
        "idleTimeout: 90s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 50}"
    )
    assert done.found == []
    assert read(done) == ConnectionPool(
        connect_timeout=timedelta(seconds=2),
        max_connections=1000,
        keepalive=TcpKeepalive(3, timedelta(seconds=30), timedelta(seconds=5)),
        tcp_idle_timeout=timedelta(),
        max_connection_duration=timedelta(hours=1),
        max_pending_requests=500,
        max_requests=2000,
        max_requests_per_connection=10,
        max_retries=3,
        http_idle_timeout=timedelta(seconds=90),
        h2_upgrade=H2Upgrade.UPGRADE,
        max_concurrent_streams=50,
    )


def test_nothing_is_the_default() -> None:
    assert read(pool("")) == read(pool("tcp: {}, http: {}")) == ConnectionPool()
    used = read(pool("http: {useClientProtocol: true}"))
    assert used is not None
    assert used.use_client_protocol


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("tcp: {maxConnections: 0}", "6:58 error ISM1106"),
        ("tcp: {maxConnections: -1}", "6:58 error ISM1106"),
        ("tcp: {maxConnections: many}", "6:58 error ISM1102"),
        ("tcp: {connectTimeout: 0s}", "6:58 error ISM1106"),
        ("tcp: {tcpKeepalive: {time: 1500ms}}", "6:63 error ISM1106"),
        ("tcp: {tcpKeepalive: {interval: 0s}}", "6:67 error ISM1106"),
        ("tcp: {tcpKeepalive: {probes: 128}}", "6:65 error ISM1106"),
        ("tcp: {idleTimeout: 10us}", "6:55 error ISM1106"),
        ("http: {http1MaxPendingRequests: 0}", "6:68 error ISM1106"),
        ("http: {http2MaxRequests: -5}", "6:61 error ISM1106"),
        ("http: {maxRetries: 0}", "6:55 error ISM1106"),
        ("http: {maxRequestsPerConnection: -1}", "6:69 error ISM1106"),
        ("http: {maxRequestsPerConnection: 536870913}", "6:69 error ISM1106"),
        ("http: {h2UpgradePolicy: MAYBE}", "6:60 error ISM1106"),
        ("http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}", "6:62 error ISM1106"),
        ("tcp: {maxConections: 5}", "6:42 error ISM1101"),
    ],
)
def test_what_no_proxy_would_take(written: str, found: str) -> None:
    done = pool(written)
    assert done.found == [found]
    assert read(done) is None
