from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, USERS, Compiled, compiled, networking

from isthmus.model.cluster import ServicePolicy
from isthmus.model.traffic_policy import ClientTls, LeveledPolicy, TlsMode, TrafficPolicy

HOST = "orders.shop.svc.cluster.local"


def rule(spec: str, name: str = "orders", namespace: str = "shop", version: str = "v1") -> str:
    return networking("DestinationRule", spec, name, namespace, version)


def policy(done: Compiled, host: str = HOST) -> ServicePolicy:
    return done.mesh.services[host].policy


def mode(done: Compiled, host: str = HOST) -> TlsMode | None:
    tls = policy(done, host).traffic.everywhere.tls
    return tls.mode if tls is not None else None


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_a_rule_with_everything(version: str) -> None:
    done = compiled(
        rule(
            """
            host: orders
            trafficPolicy:
              tls: {mode: ISTIO_MUTUAL}
              connectionPool: {tcp: {connectTimeout: 3s}}
              portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}, {port: {number: 81}}]
            subsets:
            - {name: v1, labels: {version: v1}}
            - {name: v2, labels: {version: v2}, trafficPolicy: {tls: {mode: DISABLE}}}
            """,
            version=version,
        ),
        ORDERS,
    )
    assert done.found == ["9:69 warning ISM2146"], "of port 81 it says nothing, and so nothing of TLS"
    found = policy(done)
    assert mode(done) is TlsMode.ISTIO_MUTUAL
    assert found.traffic.everywhere.connection_pool is not None
    assert found.traffic.everywhere.connection_pool.connect_timeout == timedelta(seconds=3)
    assert found.traffic.ports == {80: TrafficPolicy(tls=ClientTls(TlsMode.DISABLE)), 81: TrafficPolicy()}
    assert [(each.name, each.labels, each.traffic) for each in found.subsets] == [
        ("v1", {"version": "v1"}, LeveledPolicy()),
        ("v2", {"version": "v2"}, LeveledPolicy(TrafficPolicy(tls=ClientTls(TlsMode.DISABLE)))),
    ]
    assert [str(origin.ref) for origin in found.origins] == ["DestinationRule/shop/orders"]


def test_without_a_rule_mutual_tls_is_automatic() -> None:
    assert policy(compiled(ORDERS)) == ServicePolicy()
    assert mode(compiled(ORDERS)) is None


def test_rules_of_one_host_are_merged() -> None:
    done = compiled(
        rule("host: orders\nsubsets: [{name: a}]\ntrafficPolicy: {tls: {mode: DISABLE}}", "one"),
        rule(
            f"host: {HOST}\nsubsets: [{{name: b}}, {{name: a}}]\ntrafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}", "two"
        ),
        ORDERS,
    )
    assert done.found == ["14:31 warning ISM2131", "15:18 warning ISM2131"]
    assert 'this subset "a" has no effect: DestinationRule/shop/one comes first' in done.messages
    assert [subset.name for subset in policy(done).subsets] == ["a", "b"]
    assert mode(done) is TlsMode.DISABLE


def test_the_services_namespace_comes_before_the_root() -> None:
    root = rule(f"host: {HOST}\ntrafficPolicy: {{tls: {{mode: DISABLE}}}}", "root", "istio-system")
    assert mode(compiled(root, ORDERS)) is TlsMode.DISABLE
    both = compiled(root, rule("host: orders\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), ORDERS)
    assert both.found == ["5:9 warning ISM2131"]
    assert mode(both) is TlsMode.ISTIO_MUTUAL


def test_a_third_namespace_has_no_say() -> None:
    done = compiled(rule(f"host: {HOST}\ntrafficPolicy: {{tls: {{mode: DISABLE}}}}", namespace="web"), ORDERS)
    assert done.found == ["5:9 warning ISM2130"]
    assert policy(done) == ServicePolicy()


def test_a_wildcard_gives_way_to_the_host_itself() -> None:
    done = compiled(
        rule('host: "*.shop.svc.cluster.local"\ntrafficPolicy: {tls: {mode: DISABLE}}', "all"),
        rule("host: orders\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"),
        ORDERS,
        USERS,
    )
    assert done.found == []
    assert mode(done) is TlsMode.ISTIO_MUTUAL
    assert mode(done, "users.shop.svc.cluster.local") is TlsMode.DISABLE


@pytest.mark.parametrize("host", ["order", '"*.example.com"'])
def test_a_host_that_does_not_exist(host: str) -> None:
    assert compiled(rule(f"host: {host}"), ORDERS).found == ["5:9 error IST0101"]
