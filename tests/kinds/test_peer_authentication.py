from __future__ import annotations

from dataclasses import replace

import pytest
from security_manifest import SHOP, Applied, applied, origin, policy, workload

from isthmus.kinds.peer_authentication import KIND
from isthmus.model.mesh import Mesh
from isthmus.model.peer_mode import peer_mode
from isthmus.model.policy import Broken, MutualTls
from isthmus.model.selector import Scope


def peer(*specs: tuple[str, str], mesh: Mesh = SHOP) -> Applied:
    """Policies ``p0``, ``p1`` … of (namespace, spec)."""
    texts = [policy("PeerAuthentication", spec, namespace, f"p{i}") for i, (namespace, spec) in enumerate(specs)]
    return applied(KIND, "---\n".join(texts) or "# no document\n", mesh)


def mode(result: Applied, namespace: str = "shop", port: int = 8080, **labels: str) -> tuple[str, str | None]:
    """The mode and the name of the policy that decides."""
    found, by = peer_mode(result.mesh.policies.peer, "istio-system", namespace, labels or {"app": "orders"}, port)
    return found.value, by.ref.name if by is not None else None


def test_every_field_is_read() -> None:
    result = peer(
        (
            "shop",
            """
            selector: {matchLabels: {app: orders}}
            mtls: {mode: STRICT}
            portLevelMtls:
              "8080": {mode: DISABLE}
              9090: {mode: PERMISSIVE}
              9091: {mode: UNSET}
            """,
        )
    )
    assert result.found == []
    (read,) = result.mesh.policies.peer
    assert (read.name, read.namespace, read.scope) == ("p0", "shop", Scope("shop", (("app", "orders"),)))
    assert read.mode is MutualTls.STRICT
    assert read.port_modes == {8080: MutualTls.DISABLE, 9090: MutualTls.PERMISSIVE, 9091: None}
    assert str(read.origin.ref) == "PeerAuthentication/shop/p0"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_both_versions(version: str) -> None:
    result = applied(KIND, policy("PeerAuthentication", "mtls: {mode: STRICT}", version=version))
    assert result.found == []
    assert mode(result) == ("STRICT", "policy")


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("mtls: {mode: STRIKT}", '5:16 error ISM1106 spec.mtls.mode: "STRIKT" is not one of UNSET, DISABLE'),
        ("mtls: STRICT", "5:9 error ISM1102 spec.mtls: expected a mapping"),
        ("mtlss: {mode: STRICT}", '5:3 error ISM1101 spec.mtlss: no field "mtlss" in spec (did you mean "mtls"?)'),
        ("targetRefs: []", '5:3 error ISM1101 spec.targetRefs: no field "targetRefs"'),
        ('portLevelMtls: {"8080": {mode: STRICT}}', "5:3 error ISM1106 spec.portLevelMtls: portLevelMtls needs a sel"),
        (
            "selector: {}\nportLevelMtls: {8080: {mode: STRICT}}",
            "6:3 error ISM1106 spec.portLevelMtls: portLevelMtls needs a selector with labels",
        ),
        (
            "selector: {matchLabels: {app: orders}}\nportLevelMtls: {}",
            "6:18 error ISM1106 spec.portLevelMtls: at least",
        ),
        (
            "selector: {matchLabels: {app: orders}}\nportLevelMtls: {http: {mode: STRICT}}",
            '6:19 error ISM1106 spec.portLevelMtls.http: "http" is not a port (1 to 65535)',
        ),
        (
            "selector: {matchLabels: {app: orders}}\nportLevelMtls: {65536: {mode: STRICT}}",
            '6:19 error ISM1106 spec.portLevelMtls.65536: "65536" is not a port',
        ),
    ],
)
def test_what_is_wrong_is_an_error_at_its_place(spec: str, found: str) -> None:
    result = peer(("shop", spec))
    assert result.mesh.policies.peer == ()
    errors = [text for text in result.found if " error " in text]
    assert len(errors) == 1
    assert errors[0].startswith(found)


def test_without_a_policy_both_are_taken() -> None:
    assert mode(peer()) == ("PERMISSIVE", None)


def test_workload_before_namespace_before_mesh() -> None:
    result = peer(
        ("istio-system", "mtls: {mode: STRICT}"),
        ("shop", "mtls: {mode: PERMISSIVE}"),
        ("shop", "selector: {matchLabels: {app: orders}}\nmtls: {mode: DISABLE}"),
    )
    assert result.found == []
    assert mode(result, app="orders") == ("DISABLE", "p2")
    assert mode(result, app="users") == ("PERMISSIVE", "p1")
    assert mode(result, "front", app="orders") == ("STRICT", "p0")
    assert mode(result, "istio-system", app="orders") == ("STRICT", "p0")


@pytest.mark.parametrize("unset", ["mtls: {mode: UNSET}", "mtls: {}", "selector:"])
def test_what_is_not_set_is_the_wider_policys(unset: str) -> None:
    assert mode(peer(("istio-system", "mtls: {mode: STRICT}"), ("shop", unset))) == ("STRICT", "p0")
    assert mode(peer(("shop", unset))) == ("PERMISSIVE", None)


def test_ports() -> None:
    result = peer(
        ("shop", "mtls: {mode: STRICT}"),
        (
            "shop",
            """
            selector: {matchLabels: {app: orders}}
            mtls: {mode: UNSET}
            portLevelMtls: {8080: {mode: DISABLE}, 9090: {mode: UNSET}}
            """,
        ),
    )
    assert mode(result, port=8080) == ("DISABLE", "p1")
    assert mode(result, port=9090) == ("STRICT", "p0")
    assert mode(result, port=1) == ("STRICT", "p0")
    assert mode(result, port=8080, app="users") == ("STRICT", "p0")


def test_the_first_of_a_scope_wins_and_the_other_is_warned_about() -> None:
    result = peer(("shop", "mtls: {mode: STRICT}"), ("shop", "mtls: {mode: DISABLE}"))
    assert mode(result) == ("STRICT", "p0")
    assert result.found == [
        "7:1 warning ISM2212 : PeerAuthentication/shop/p0 was loaded before this one and decides alone"
    ]


def test_policies_that_overlap_on_a_workload_are_warned_about() -> None:
    mesh = replace(SHOP, workloads=(workload(app="orders", tier="back"), workload(name="users", app="users")))
    result = peer(
        ("shop", "selector: {matchLabels: {app: orders}}\nmtls: {mode: STRICT}"),
        ("shop", "selector: {matchLabels: {tier: back}}\nmtls: {mode: DISABLE}"),
        ("shop", "selector: {matchLabels: {app: users}}\nmtls: {mode: DISABLE}"),
        mesh=mesh,
    )
    assert mode(result, app="orders", tier="back") == ("STRICT", "p0")
    assert mode(result, app="other", tier="back") == ("DISABLE", "p1")
    assert result.found == [
        "8:1 warning ISM2212 : for the workload with the labels app=orders, tier=back: "
        "PeerAuthentication/shop/p0 was loaded before this one and decides alone"
    ]


def test_a_selector_in_the_root_namespace_is_an_error_and_holds_nowhere() -> None:
    result = peer(("istio-system", "selector: {matchLabels: {app: orders}}\nmtls: {mode: DISABLE}"))
    assert len(result.found) == 1
    assert result.found[0].startswith("5:13 error ISM2211 spec.selector: a PeerAuthentication of the root namespace")
    assert mode(result) == ("PERMISSIVE", None)
    assert mode(result, "istio-system") == ("PERMISSIVE", None)


def test_peer_mode_itself_passes_over_a_selector_in_the_root_namespace() -> None:
    (read,) = peer(("shop", "selector: {matchLabels: {app: orders}}\nmtls: {mode: DISABLE}")).mesh.policies.peer
    assert peer_mode((read,), "shop", "shop", {"app": "orders"}, 1) == (MutualTls.PERMISSIVE, None)


def test_a_selector_that_matches_nothing() -> None:
    result = peer(("shop", "selector: {matchLabels: {app: order}}\nmtls: {mode: STRICT}"))
    assert len(result.found) == 1
    assert result.found[0].startswith("5:27 warning IST0127")
    assert len(result.mesh.policies.peer) == 1


def test_policies_of_other_kinds_stay() -> None:
    before = replace(SHOP, policies=replace(SHOP.policies, broken=(Broken(Scope("shop"), origin()),)))
    after = peer(("shop", "mtls: {mode: STRICT}"), mesh=before).mesh.policies
    assert len(after.peer) == 1
    assert after.broken == before.policies.broken
