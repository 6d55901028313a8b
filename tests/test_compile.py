"""What becomes of documents before a kind has a say: unknown kinds, versions, and documents that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest

from isthmus.compile import Compiled, Compiler
from isthmus.config.load import Loaded, load
from isthmus.config.resource import Resource
from isthmus.diag import Ref
from isthmus.model.proxy import Role
from isthmus.model.selector import Scope

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: readers
  namespace: shop
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{}]
"""
BROKEN_POLICY = POLICY.replace("action: DENY", "action: DENNY")
NO_YAML_POLICY = POLICY.replace("[{}]", "[{")
POLICY_REF = Ref("AuthorizationPolicy", "shop", "readers")
ORDERS = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: orders}}
"""


def loaded(text: str) -> Loaded:
    return load(["-"], stdin=BytesIO(text.encode()))


def compiled(text: str, good: Mapping[Ref, Resource[Any]] | None = None) -> Compiled:
    given = loaded(text)
    return Compiler().compile(given.documents, good, given.broken)


def found(result: Compiled) -> list[str]:
    return [f"{one.source.line}:{one.source.column} {one.severity.word} {one.code.id}" for one in result.diagnostics]


@pytest.mark.parametrize(
    ("version", "kind", "expected", "said"),
    [
        ("security.istio.io/v1", "AuthorisationPolicy", "error ISM2001", '(did you mean "AuthorizationPolicy"?)'),
        ("isthmus.dev/v1alpha1", "LocalWorkloads", "error ISM2001", '(did you mean "LocalWorkload"?)'),
        ("networking.istio.io/v2", "Gateway", "error ISM2002", "it is in networking.istio.io/v1, "),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "warning ISM2003", "the document has no effect"),
        ("batch/v1", "Job", "info ISM2004", "Job (batch/v1)"),
        ("gateway.networking.k8s.io/v1", "Gateway", "info ISM2004", "is not for Isthmus"),
    ],
)
def test_what_no_kind_reads(version: str, kind: str, expected: str, said: str) -> None:
    result = compiled(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\n")
    assert f"1:1 {expected}" in found(result)
    assert any(said in one.message for one in result.diagnostics)
    assert not result.good


CLOSED = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {}
"""


@pytest.mark.parametrize(
    ("good", "slip"),
    [
        ("kind: AuthorizationPolicy", "kind: AuthorisationPolicy"),
        ("security.istio.io/v1", "security.istio.io/v9"),
        ("security.istio.io/v1", "securty.istio.io/v1"),
        ("security.istio.io/v1", "security.isto.io/v1"),
    ],
)
def test_a_slip_in_kind_or_version_does_not_take_a_policy_away(good: str, slip: str) -> None:
    before = compiled(CLOSED)
    assert len(before.mesh.policies.authorization) == 1
    after = compiled(CLOSED.replace(good, slip), before.good)
    assert len(after.mesh.policies.authorization) == 1
    assert not after.mesh.policies.broken
    assert "ISM2005" in str(found(after))
    assert after.errors
    new = compiled(CLOSED.replace(good, slip))
    (denied,) = new.mesh.policies.broken
    assert denied.scope == Scope("shop")


def test_other_systems_kinds_deny_nothing() -> None:
    result = compiled("apiVersion: policy.example.com/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\n")
    assert not result.mesh.policies.broken
    assert found(result) == ["1:1 info ISM2004"]


def test_a_new_policy_that_cannot_be_read_denies_what_it_selects() -> None:
    result = compiled(BROKEN_POLICY)
    assert found(result) == ["1:1 error ISM2006", "8:11 error ISM1106"]
    (broken,) = result.mesh.policies.broken
    assert broken.scope == Scope("shop", (("app", "orders"),))
    assert len(result.stopping) == 2


def test_a_new_policy_that_is_no_yaml_denies_too() -> None:
    result = compiled(NO_YAML_POLICY)
    assert found(result) == ["1:1 error ISM2006"]
    (broken,) = result.mesh.policies.broken
    assert broken.origin.ref == POLICY_REF
    assert broken.scope.selects("shop", {"app": "orders"})


def test_the_last_good_version_stays_in_force() -> None:
    before = compiled(POLICY + "---\n" + ORDERS)
    after = compiled(BROKEN_POLICY + "---\n" + ORDERS, before.good)
    assert found(after) == ["1:1 warning ISM2005", "8:11 error ISM1106"]
    assert after.mesh.policies.authorization == before.mesh.policies.authorization
    assert after.mesh.policies.broken == ()
    assert after.good[POLICY_REF] is before.good[POLICY_REF]


def test_what_has_not_changed_is_not_read_again() -> None:
    compiler, documents = Compiler(), loaded(POLICY + "---\n" + ORDERS).documents
    first, second = compiler.compile(documents), compiler.compile(documents)
    assert all(second.good[ref] is resource for ref, resource in first.good.items())


def test_a_workload_of_this_machine_has_a_sidecar() -> None:
    (proxy,) = compiled(ORDERS).mesh.proxies
    assert (proxy.role, proxy.id) == (Role.SIDECAR, "sidecar~shop~orders-1")
    assert compiled(ORDERS.replace("127.0.0.1", "192.0.2.1")).mesh.proxies == ()


def test_a_lone_gateway_gets_a_proxy_of_its_name_and_a_deployment_keeps_its_own() -> None:
    gateway = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]
"""
    deployment = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge-envoy, namespace: infra}
spec: {template: {metadata: {labels: {app: edge, tier: front}}, spec: {serviceAccountName: edge-sa}}}
"""
    (lone,) = compiled(gateway).mesh.proxies
    assert (lone.id, lone.identity.uri) == ("gateway~shop~edge", "spiffe://cluster.local/ns/shop/sa/edge")
    (deployed,) = compiled(gateway + "---\n" + deployment).mesh.proxies
    assert (deployed.id, deployed.identity.uri) == (
        "gateway~infra~edge-envoy",
        "spiffe://cluster.local/ns/infra/sa/edge-sa",
    )


def test_two_gateway_proxies_of_one_name_are_an_error() -> None:
    gateway = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {app}}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["{app}.example.com"]}}]
---
"""
    deployment = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge, namespace: shop}
spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}}}
"""
    result = compiled(gateway.format(name="one", app="a") + gateway.format(name="edge", app="b") + deployment)
    assert [proxy.id for proxy in result.mesh.proxies] == ["gateway~shop~edge"]
    assert "ISM2009" in str(found(result))


def test_what_apply_refuses_leaves_the_last_good_version() -> None:
    strict = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec:
  mtls: {mode: STRICT}
"""
    before = compiled(strict)
    after = compiled(strict + "  selector: {matchLabels: {app: web}}\n", before.good)
    assert after.mesh.policies.peer == before.mesh.policies.peer
    assert {"ISM2211", "ISM2005"} <= {one.code.id for one in after.diagnostics}
    assert after.good == before.good


ROUTE_AND_POLICY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec: {{selector: {{app: edge}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: shop}}
spec: {{hosts: ["*"], gateways: [edge], http: [{{name: {route}, directResponse: {{status: 200}}}}]}}
---
apiVersion: isthmus.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: mine, namespace: shop}}
spec: {{targetRefs: [{{kind: VirtualService, name: shop, sectionName: {section}}}], rules: [{{methods: [GET]}}]}}
"""


def test_a_route_is_not_taken_from_under_a_policy() -> None:
    """Else whoever renames a route opens it."""
    before = compiled(ROUTE_AND_POLICY.format(route="users", section="users"))
    assert not before.errors
    for changed in ({"route": "people", "section": "users"}, {"route": "users", "section": "people"}):
        after = compiled(ROUTE_AND_POLICY.format(**changed), before.good)
        assert {"ISM2292", "ISM2005"} <= {one.code.id for one in after.diagnostics}
        assert [route.name for table in after.mesh.routes for route in table.routes] == ["users"]
        assert after.mesh.policies.access[0].attachment == before.mesh.policies.access[0].attachment
    together = compiled(ROUTE_AND_POLICY.format(route="people", section="people"), before.good)
    assert not together.errors
    assert [target.section for target in together.mesh.policies.access[0].attachment.targets] == ["people"]


def test_nothing_is_started_with_a_policy_for_what_is_not_there() -> None:
    (found,) = compiled(ROUTE_AND_POLICY.format(route="users", section="usres")).errors
    assert (found.code.id, found.code.stops) == ("ISM2292", True)
