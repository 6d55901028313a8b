from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, USERS, Compiled, compiled, networking

from isthmus.model.cluster import ServicePolicy, TlsMode

HOST = "orders.shop.svc.cluster.local"


def rule(spec: str, name: str = "orders", namespace: str = "shop", version: str = "v1") -> str:
    return networking("DestinationRule", spec, name, namespace, version)


def policy(done: Compiled, host: str = HOST) -> ServicePolicy:
    return done.mesh.services[host].policy


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
    assert done.found == []
    found = policy(done)
    assert found.tls_mode is TlsMode.ISTIO_MUTUAL
    assert found.connect_timeout == timedelta(seconds=3)
    assert found.port_tls_modes == {80: TlsMode.DISABLE, 81: TlsMode.AUTO}
    assert [(each.name, each.labels, each.tls_mode) for each in found.subsets] == [
        ("v1", {"version": "v1"}, None),
        ("v2", {"version": "v2"}, TlsMode.DISABLE),
    ]
    assert [str(origin.ref) for origin in found.origins] == ["DestinationRule/shop/orders"]


def test_without_a_rule_mutual_tls_is_automatic() -> None:
    assert policy(compiled(ORDERS)) == ServicePolicy()
    assert ServicePolicy().tls_mode is TlsMode.AUTO


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
    assert policy(done).tls_mode is TlsMode.DISABLE


def test_the_services_namespace_comes_before_the_root() -> None:
    root = rule(f"host: {HOST}\ntrafficPolicy: {{tls: {{mode: DISABLE}}}}", "root", "istio-system")
    assert policy(compiled(root, ORDERS)).tls_mode is TlsMode.DISABLE
    both = compiled(root, rule("host: orders\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), ORDERS)
    assert both.found == ["5:9 warning ISM2131"]
    assert policy(both).tls_mode is TlsMode.ISTIO_MUTUAL


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
    assert policy(done).tls_mode is TlsMode.ISTIO_MUTUAL
    assert policy(done, "users.shop.svc.cluster.local").tls_mode is TlsMode.DISABLE


@pytest.mark.parametrize("host", ["order", '"*.example.com"'])
def test_a_host_that_does_not_exist(host: str) -> None:
    assert compiled(rule(f"host: {host}"), ORDERS).found == ["5:9 error IST0101"]


@pytest.mark.parametrize(
    ("spec", "at"),
    [
        ("trafficPolicy: {loadBalancer: {simple: RANDOM}}", "6:19"),
        ("trafficPolicy: {outlierDetection: {}}", "6:19"),
        ("trafficPolicy: {connectionPool: {http: {}}}", "6:36"),
        ("trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}", "6:42"),
        ("trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: a}}", "6:45"),
        ("subsets: [{name: a, trafficPolicy: {loadBalancer: {}}}]", "6:39"),
    ],
)
def test_fields_without_effect_are_warned_about(spec: str, at: str) -> None:
    done = compiled(rule(f"host: orders\n{spec}"), ORDERS)
    assert done.found == [f"{at} warning ISM1104"]
    assert policy(done).origins


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("trafficPolicy: {tls: {mode: SIMPLE}}", "6:31 error ISM1106"),
        ("trafficPolicy: {tls: {mode: MUTUAL}}", "6:31 error ISM1106"),
        ("trafficPolicy: {tls: {}}", "6:24 error ISM1103"),
        ("trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: [a]}}", "6:45 error ISM1105"),
        ("trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}", "6:58 error ISM1106"),
        ("subsets: [{name: a}, {name: a}]", "6:12 error ISM1106"),
        ("subsets: [{name: a, trafficPolicy: {portLevelSettings: []}}]", "6:58 error ISM2101"),
        ("workloadSelector: {}", "6:3 error ISM1105"),
        ('exportTo: ["."]', "6:13 error ISM1105"),
        ("subset: []", "6:3 error ISM1101"),
    ],
)
def test_rules_that_cannot_be_read(spec: str, found: str) -> None:
    done = compiled(rule(f"host: orders\n{spec}"), ORDERS)
    assert done.found == [found]
    assert policy(done) == ServicePolicy()
