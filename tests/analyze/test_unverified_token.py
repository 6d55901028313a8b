from __future__ import annotations

from isthmus.analyze.unverified_token import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, ROUTES, found, tokens


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


AT_ROUTES = "targetRefs: [{kind: VirtualService, name: shop}]"


def clients(attached: str, method: str) -> str:
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {name: clients, namespace: shop}\n"
    return f"{head}spec:\n  {attached}\n  methods: [{{{method}}}]\n"


def test_at_a_route_too() -> None:
    named = policy("{scopes: [a]}").replace("selector: {matchLabels: {app: orders}}", AT_ROUTES)
    given = (named, GATEWAY, ROUTES, ORDERS)
    assert found(CHECK, *given) == [
        "6 warning ISM5083: nobody verifies tokens at edge/edge for shop/shop: no request passes this rule there"
    ]
    assert found(CHECK, *given, tokens("jwtRules: [{issuer: https://a}]", "edge")) == []


def test_a_client_authentication_that_is_about_something_else() -> None:
    jwt = "jwt: {issuers: [https://a]}"
    rule, given = policy("{scopes: [a]}"), (GATEWAY, ROUTES, ORDERS)
    assert len(found(CHECK, rule, *given, clients(AT_ROUTES, jwt))) == 1
    assert len(found(CHECK, rule, *given, clients("selector: {}", "apiKey: {}"))) == 1
    assert found(CHECK, rule, *given, clients("selector: {}", jwt)) == []
