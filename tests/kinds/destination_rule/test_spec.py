from __future__ import annotations

from textwrap import dedent

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.cluster import ServicePolicy
from isthmus.model.traffic_policy import TrafficPolicy

HOST = "orders.shop.svc.cluster.local"
LEVELS = {
    "service": "trafficPolicy: {{{}}}",
    "port": "trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, {}}}]}}",
    "subset": "subsets: [{{name: a, trafficPolicy: {{{}}}}}]",
    "port of a subset": "subsets: [{{name: a, trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, {}}}]}}}}]",
}


def rule(spec: str) -> Compiled:
    written = "host: orders\n" + dedent(spec).strip("\n")
    return compiled(networking("DestinationRule", written, "orders"), ORDERS)


def in_force(done: Compiled, subset: str | None = None, port: int = 80) -> TrafficPolicy:
    service = done.mesh.services[HOST]
    return service.traffic(port, service.policy.subset(subset) if subset is not None else None)


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_takes_every_block(level: str) -> None:
    blocks = (
        "tls: {mode: DISABLE}, connectionPool: {tcp: {maxConnections: 7}}, "
        "outlierDetection: {maxEjectionPercent: 100}, loadBalancer: {simple: RANDOM}"
    )
    done = rule(LEVELS[level].format(blocks))
    assert done.found == []
    found = in_force(done, "a" if "subset" in level else None)
    assert found.tls
    assert found.connection_pool
    assert found.outlier_detection
    assert found.load_balancer


def test_a_subset_overrides_whole_blocks() -> None:
    done = rule(
        """
        trafficPolicy:
          connectionPool: {tcp: {maxConnections: 1}, http: {maxRetries: 2}}
          loadBalancer: {simple: RANDOM}
        subsets: [{name: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}]
        """
    )
    found = in_force(done, "a")
    assert found.connection_pool
    assert (found.connection_pool.max_connections, found.connection_pool.max_retries) == (7, None)
    assert found.load_balancer == in_force(done).load_balancer is not None


def test_a_port_replaces_everything() -> None:
    done = rule(
        """
        trafficPolicy:
          connectionPool: {tcp: {maxConnections: 1}}
          portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
        subsets:
        - {name: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}}
        - name: b
          trafficPolicy:
            loadBalancer: {simple: ROUND_ROBIN}
            portLevelSettings: [{port: {number: 80}, outlierDetection: {maxEjectionPercent: 100}}]
        """
    )
    assert in_force(done).connection_pool is None
    assert in_force(done, port=81).connection_pool is not None
    of_port = in_force(done, "a")
    assert (of_port.load_balancer, of_port.connection_pool) == (in_force(done).load_balancer, None)
    assert of_port.outlier_detection is not None
    alone = in_force(done, "b")
    assert (alone.load_balancer, alone.outlier_detection is not None) == (None, True)


@pytest.mark.parametrize(
    ("spec", "at"),
    [
        ("trafficPolicy: {tunnel: {}}", "6:19"),
        ("trafficPolicy: {proxyProtocol: {}}", "6:19"),
        ("trafficPolicy: {retryBudget: {}}", "6:19"),
        ("trafficPolicy: {loadBalancer: {localityLbSetting: {}}}", "6:34"),
        ("trafficPolicy: {outlierDetection: {consecutiveErrors: 5, maxEjectionPercent: 100}}", "6:38"),
        ("trafficPolicy: {connectionPool: {http: {http2KeepAlive: {}}}}", "6:43"),
        ("subsets: [{name: a, trafficPolicy: {tunnel: {}}}]", "6:39"),
    ],
)
def test_fields_without_effect_are_warned_about(spec: str, at: str) -> None:
    done = rule(spec)
    assert done.found == [f"{at} warning ISM1104"]
    assert done.mesh.services[HOST].policy.origins


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("trafficPolicy: {portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]}", "6:38 error ISM1106"),
        ("trafficPolicy: {portLevelSettings: [{port: {}}]}", "6:46 error ISM1103"),
        ("subsets: [{name: a}, {name: a}]", "6:12 error ISM1106"),
        ("workloadSelector: {}", "6:3 error ISM1105"),
        ('exportTo: ["."]', "6:13 error ISM1105"),
        ("subset: []", "6:3 error ISM1101"),
    ],
)
def test_rules_that_cannot_be_read(spec: str, found: str) -> None:
    done = rule(spec)
    assert done.found == [found]
    assert done.mesh.services[HOST].policy == ServicePolicy()
