from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

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


def balancer(written: str) -> Compiled:
    """``written`` begins at 6:33."""
    spec = f"host: orders\ntrafficPolicy: {{loadBalancer: {{{written}}}}}"
    return compiled(networking("DestinationRule", spec, "orders"), ORDERS)


def read(done: Compiled) -> LoadBalancer | None:
    return done.mesh.services["orders.shop.svc.cluster.local"].policy.traffic.everywhere.load_balancer


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("UNSPECIFIED", Simple.LEAST_REQUEST),
        ("LEAST_REQUEST", Simple.LEAST_REQUEST),
        ("LEAST_CONN", Simple.LEAST_REQUEST),
        ("ROUND_ROBIN", Simple.ROUND_ROBIN),
        ("RANDOM", Simple.RANDOM),
    ],
)
def test_simple(written: str, expected: Simple) -> None:
    done = balancer(f"simple: {written}")
    assert (done.found, read(done)) == ([], LoadBalancer(expected))


def test_nothing_is_least_request() -> None:
    assert read(balancer("")) == LoadBalancer(Simple.LEAST_REQUEST)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("httpHeaderName: x-user", ConsistentHash(HeaderHash("x-user"))),
        ("httpCookie: {name: c, ttl: 0s}", ConsistentHash(CookieHash("c", timedelta()))),
        ("httpCookie: {name: c, ttl: 1h, path: /a}", ConsistentHash(CookieHash("c", timedelta(hours=1), "/a"))),
        ("useSourceIp: true", ConsistentHash(SourceIpHash())),
        ("httpQueryParameterName: user", ConsistentHash(QueryHash("user"))),
        ("useSourceIp: true, ringHash: {minimumRingSize: 9}", ConsistentHash(SourceIpHash(), RingHash(9))),
        ("useSourceIp: true, minimumRingSize: 9", ConsistentHash(SourceIpHash(), RingHash(9))),
        ("useSourceIp: true, maglev: {}", ConsistentHash(SourceIpHash(), Maglev(65537))),
        ("useSourceIp: true, maglev: {tableSize: 251}", ConsistentHash(SourceIpHash(), Maglev(251))),
    ],
)
def test_consistent_hash(written: str, expected: Any) -> None:
    done = balancer(f"consistentHash: {{{written}}}")
    assert (done.found, read(done)) == ([], LoadBalancer(consistent_hash=expected))


def test_warmup() -> None:
    full = read(balancer("simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 5, aggression: 1.5}"))
    assert full == LoadBalancer(Simple.ROUND_ROBIN, warmup=Warmup(timedelta(seconds=30), 5, 1.5))
    assert read(balancer("warmupDurationSecs: 30s")) == LoadBalancer(warmup=Warmup(timedelta(seconds=30), 10, 1))


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("simple: PASSTHROUGH", "6:42 error ISM2140"),
        ("simple: BEST", "6:42 error ISM1106"),
        ("simple: RANDOM, consistentHash: {useSourceIp: true}", "6:33 error ISM1106"),
        ("consistentHash: {}", "6:50 error ISM1106"),
        ("consistentHash: {useSourceIp: false}", "6:50 error ISM1106"),
        ("consistentHash: {useSourceIp: true, httpHeaderName: a}", "6:50 error ISM1106"),
        ('consistentHash: {httpHeaderName: "a b"}', "6:67 error ISM1106"),
        ('consistentHash: {httpQueryParameterName: ""}', "6:75 error ISM1106"),
        ("consistentHash: {httpCookie: {name: c}}", "6:63 error ISM1103"),
        ("consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}", "6:90 error ISM1106"),
        ("consistentHash: {useSourceIp: true, maglev: {tableSize: 5000077}}", "6:90 error ISM1106"),
        ("consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 0}}", "6:98 error ISM1106"),
        ("consistentHash: {useSourceIp: true, maglev: {}, ringHash: {}}", "6:50 error ISM1106"),
        ("simple: RANDOM, warmupDurationSecs: 30s", "6:70 error ISM1106"),
        ("warmup: {minimumPercent: 10}", "6:42 error ISM1103"),
        ("warmup: {duration: 1s, minimumPercent: 101}", "6:73 error ISM1106"),
        ("warmup: {duration: 1s, aggression: 0.5}", "6:69 error ISM1106"),
        ("warmup: {duration: 1s}, warmupDurationSecs: 1s", "6:33 error ISM1106"),
    ],
)
def test_what_no_proxy_would_take(written: str, found: str) -> None:
    done = balancer(written)
    assert done.found == [found]
    assert read(done) is None
