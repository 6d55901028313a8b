from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from isthmus.control.bundle_finding import (
    BUNDLE_MISSING,
    BUNDLE_REFUSED,
    BUNDLE_STALE,
    DECISION_LOG_TOKEN,
    bundle_findings,
)
from isthmus.control.bundles import SecretValue, active_bundles, bundle_gauges, wishes
from isthmus.control.control_plane import ControlPlane
from isthmus.control.decisions import planned_services
from isthmus.control.secret_value import secret_value
from isthmus.decide.rego.activation import Wish
from isthmus.decide.rego.keeper import BundleStatus
from isthmus.model.rego_bundle import ActiveBundle

from .making import plane_of

POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: RegoPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  path: shop/allow
  bundle:
    url: https://bundles.example/{name}.tar.gz
{more}"""
SECRETS = """\
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: shop}
stringData: {token: "open\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: shared, namespace: shop}
stringData: {key: a shared secret of the two}
---
apiVersion: v1
kind: Secret
metadata: {name: other, namespace: shop}
stringData: {password: x}
"""
SHARED = "    verification: {keys: [{id: default, algorithm: HS256, credentialName: shared}], scope: write}\n"
ACTIVE = ActiveBundle("a" * 64, "seven")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def policy(name: str = "authz", *more: str) -> str:
    return POLICY.format(name=name, more="".join(more))


def secrets(plane: ControlPlane) -> SecretValue:
    return lambda key, names: secret_value(plane.compiled.value, key, names)


def wanted(plane: ControlPlane) -> list[Wish]:
    return sorted(wishes(plane.mesh, secrets(plane)), key=lambda wish: wish.policy)


def status(plane: ControlPlane, **fields: Any) -> dict[str, BundleStatus]:
    [wish] = wanted(plane)
    told = {"active": None, "since": None, "error": None, "refused": False} | fields
    return {wish.policy: BundleStatus(wish=wish, **told)}


def test_one_of_each_policy() -> None:
    plane = plane_of(policy("a"), policy("b", "    credentialName: token\n", SHARED), SECRETS)
    first, second = wanted(plane)
    assert (first.policy, first.path, first.verifier, first.token, first.problem) == (
        *("shop/a", "shop/allow", None, None, ""),
    )
    assert (second.token, second.problem) == ("open", "")
    assert second.verifier is not None
    [key] = second.verifier.keys
    assert (key.id, key.algorithm, key.material, second.verifier.scope) == (
        *("default", "HS256", b"a shared secret of the two", "write"),
    )


def test_secrets_that_are_missing() -> None:
    for name in ("none", "other"):
        [wish] = wanted(plane_of(policy("a", f"    credentialName: {name}\n"), SECRETS))
        assert wish.problem == f"the Secret shop/{name} has no token"
    [wish] = wanted(plane_of(policy("a", SHARED.replace("shared", "none")), SECRETS))
    assert 'the Secret shop/none has no "key"' in wish.problem
    assert wish.verifier is not None, "what is kept may not decide unverified"
    assert wish.verifier.keys == ()


def test_findings() -> None:
    plane = plane_of(policy())

    def found(**fields: Any) -> list[tuple[str, str]]:
        return [
            (one.code.id, one.message) for one in bundle_findings(plane.mesh, status(plane, **fields), secrets(plane))
        ]

    assert found(error="not fetched yet") == []
    assert found(active=ACTIVE) == []
    assert bundle_findings(plane.mesh, {}, secrets(plane)) == ()
    [(code, message)] = found(error="status 404")
    assert (code, "status 404" in message, "refused" in message) == (BUNDLE_MISSING.id, True, True)
    [(code, message)] = found(error="status 503", active=ACTIVE)
    assert (code, "revision seven stays in force" in message) == (BUNDLE_STALE.id, True)
    [(code, message)] = found(error="not signed", active=ACTIVE, refused=True)
    assert (code, "(not signed): revision seven stays" in message) == (BUNDLE_REFUSED.id, True)
    [(code, message)] = found(error="not signed", refused=True)
    assert (code, "there is none yet" in message) == (BUNDLE_REFUSED.id, True)
    [only] = bundle_findings(plane.mesh, status(plane, error="status 404"), secrets(plane))
    assert (str(only.ref), only.path) == ("RegoPolicy/shop/authz", "spec.bundle")
    assert (BUNDLE_MISSING.id, BUNDLE_REFUSED.id, BUNDLE_STALE.id) == ("ISM7062", "ISM7063", "ISM7064")


def test_what_decides_goes_to_who_decides_by_its_digest() -> None:
    plane = plane_of(policy())
    [first, *_] = planned_services(plane.mesh, plane.world, "local", lambda key, names: None)
    assert '"bundle": null' in first.settings
    plane.inputs.rego_bundles = active_bundles(status(plane, active=ACTIVE))
    plane.rebuild()
    [first, *_] = planned_services(plane.mesh, plane.world, "local", lambda key, names: None)
    assert f'"bundle": "{"a" * 64}"' in first.settings
    assert active_bundles(status(plane)) == {}


def test_decision_logs_and_their_token() -> None:
    log = "  decisionLog: {url: https://logs.example, credentialName: token}\n"
    plane = plane_of(policy("authz", log), SECRETS)
    [first, *_] = planned_services(plane.mesh, plane.world, "local", secrets(plane))
    assert '"token": "open"' in first.settings
    assert '"url": "https://logs.example"' in first.settings
    assert '"id": "local"' in first.settings
    assert "open" not in repr(first)
    [other, *_] = planned_services(plane.mesh, plane.world, "edge-1", secrets(plane))
    assert "open" not in other.settings, "a machine without a proxy that it holds for"
    assert bundle_findings(plane.mesh, {}, secrets(plane)) == ()
    without = plane_of(policy("authz", log))
    [finding] = bundle_findings(without.mesh, {}, secrets(without))
    assert (finding.code, finding.code.id, finding.path) == (DECISION_LOG_TOKEN, "ISM7065", "spec.decisionLog")


def test_gauges() -> None:
    plane = plane_of(policy())
    assert bundle_gauges(status(plane, active=ACTIVE)) == {
        "isthmus_rego_bundle_active": {("shop/authz",): 1.0},
        "isthmus_rego_bundle_failing": {("shop/authz",): 0.0},
    }
    assert bundle_gauges(status(plane, error="x"))["isthmus_rego_bundle_failing"] == {("shop/authz",): 1.0}
