from __future__ import annotations

from datetime import timedelta

import pytest
from security_manifest import Applied, applied, policy

from isthmus.kinds.workload_registration import ANYBODY_MAY_RUN, CONTROL_PLANE_REGISTERED, HINT_TWICE, KIND
from isthmus.model.registration import Selectors


def registered(*specs: str, namespace: str = "shop") -> Applied:
    texts = [
        policy("WorkloadRegistration", spec, namespace, f"r{index}").replace(
            "security.istio.io/v1", "isthmus.dev/v1alpha1"
        )
        for index, spec in enumerate(specs)
    ]
    return applied(KIND, "---\n".join(texts))


def test_every_field_is_read() -> None:
    result = registered(
        f"""
        serviceAccount: orders
        node: edge-1
        selectors:
          uid: 1000
          gid: 0
          path: /usr/bin/orders
          sha256: {"a" * 64}
          systemdUnit: orders@1.service
        ttl: 10m
        jwtTtl: 1m
        jwtAudiences: [vault]
        hint: inner
        """
    )
    assert result.found == []
    (found,) = result.mesh.registrations
    assert (found.namespace, found.service_account, found.node) == ("shop", "orders", "edge-1")
    assert found.selectors == Selectors(1000, 0, "/usr/bin/orders", "a" * 64, "orders@1.service")
    assert (found.ttl, found.jwt_ttl) == (timedelta(minutes=10), timedelta(minutes=1))
    assert (found.jwt_audiences, found.hint) == (("vault",), "inner")


def test_the_defaults() -> None:
    (found,) = registered("serviceAccount: orders\nselectors: {uid: 1}").mesh.registrations
    assert (found.node, found.ttl, found.jwt_ttl, found.jwt_audiences, found.hint) == ("local", None, None, None, "")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("selectors: {uid: 1}", "serviceAccount"),
        ("serviceAccount: orders", "selectors"),
        ("serviceAccount: orders\nselectors: {}", "without a selector every process would be meant"),
        ("serviceAccount: a/sa/b\nselectors: {uid: 1}", "not a service account"),
        ("serviceAccount: a\nselectors: {uid: -1}", "not negative"),
        ("serviceAccount: a\nselectors: {user: root}", "user"),
        ("serviceAccount: a\nselectors: {path: orders}", "not an absolute path"),
        ("serviceAccount: a\nselectors: {path: /usr/../bin/x}", "not an absolute path"),
        ("serviceAccount: a\nselectors: {path: /usr//x}", "not an absolute path"),
        ("serviceAccount: a\nselectors: {sha256: ABC}", "64 hexadecimal digits"),
        ("serviceAccount: a\nselectors: {systemdUnit: orders}", "not a systemd unit"),
        ("serviceAccount: a\nselectors: {systemdUnit: a/b.service}", "not a systemd unit"),
        ("serviceAccount: a\nselectors: {uid: 1}\nttl: 5s", "10s to 90 days"),
        ("serviceAccount: a\nselectors: {uid: 1}\njwtTtl: 25h", "10s to 24h"),
        ("serviceAccount: a\nselectors: {uid: 1}\njwtAudiences: []", "at least 1"),
        ('serviceAccount: a\nselectors: {uid: 1}\njwtAudiences: [""]', "not empty"),
        ("serviceAccount: a\nselectors: {uid: 1}\nnode: a/b", "not the name of a node"),
        (f"serviceAccount: a\nselectors: {{uid: 1}}\nhint: {'x' * 1025}", "at most 1024 bytes"),
    ],
)
def test_what_is_wrong(spec: str, said: str) -> None:
    result = registered(spec)
    assert result.mesh.registrations == ()
    (found,) = result.found
    assert said in found


def test_nobody_is_the_control_plane() -> None:
    spec = "serviceAccount: isthmus\nselectors: {uid: 0}"
    result = registered(spec, namespace="istio-system")
    assert [CONTROL_PLANE_REGISTERED.id in found for found in result.found] == [True]
    assert result.mesh.registrations == ()
    assert registered(spec).found == [], "of another namespace it is somebody else"


def test_two_of_one_hint() -> None:
    one, two = ("serviceAccount: a\nselectors: {uid: 1}\nhint: x", "serviceAccount: b\nselectors: {uid: 2}\nhint: x")
    result = registered(one, two)
    assert [HINT_TWICE.id in found for found in result.found] == [True]
    assert len(result.mesh.registrations) == 2
    assert registered(one, two + "\nnode: other").found == []


@pytest.mark.parametrize(
    ("selectors", "told"),
    [("path: /usr/bin/a", True), (f"sha256: {'a' * 64}", True), ("path: /usr/bin/a, uid: 1", False), ("gid: 1", False)],
)
def test_a_file_alone_is_whoever_runs_it(selectors: str, told: bool) -> None:
    result = registered(f"serviceAccount: a\nselectors: {{{selectors}}}")
    assert [ANYBODY_MAY_RUN.id in found for found in result.found] == ([True] if told else [])
    assert len(result.mesh.registrations) == 1
