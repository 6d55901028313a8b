from __future__ import annotations

from isthmus.analyze.rego_default import CHECK
from tests.analyze.manifest import ORDERS
from tests.analyze.manifest import found as look

HEAD = "apiVersion: isthmus.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {name: authz, namespace: shop}\nspec:\n"


def said(text: str, path: str = "envoy/authz/allow") -> list[str]:
    body = text.replace("\n", "\n    ")
    return look(CHECK, f"{HEAD}  path: {path}\n  rego: |\n    package envoy.authz\n    {body}\n", ORDERS)


def test_a_decision_without_a_default() -> None:
    (found,) = said("allow if input.x")
    assert found.startswith('1 warning ISM5120: nothing says what "allow" is when no rule holds')
    assert len(said("default allow := false", "envoy/authz/decide")) == 1


def test_with_one() -> None:
    assert said("default allow := false\nallow if input.x") == []
    assert said("default decide = {}\n", "envoy/authz/decide") == []
