from __future__ import annotations

from isthmus.analyze.unverified_token import CHECK
from tests.analyze.manifest import ORDERS, found, tokens


def policy(rules: str, app: str = "orders") -> str:
    """Its rules begin on line 6."""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: it, namespace: shop}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {app}}}}}\n  rules: [{rules}]\n"
    )


TOKENS = tokens("selector: {matchLabels: {app: orders}}\njwtRules: [{issuer: https://a}]")


def test_a_rule_about_tokens_where_nobody_verifies_them() -> None:
    told = "nobody verifies tokens at shop/orders-1: no request passes this rule there"
    for rule in ("{scopes: [a]}", "{issuers: [https://a]}", "{when: \"claims.sub == 'a'\"}"):
        assert found(CHECK, policy(rule), ORDERS) == [f"6 warning ISM5083: {told}"]
        assert found(CHECK, policy(rule), ORDERS, TOKENS) == []


def test_a_rule_that_can_do_without() -> None:
    assert found(CHECK, policy("{when: \"has(claims.a) || method == 'GET'\"}, {groups: [a]}"), ORDERS) == []
