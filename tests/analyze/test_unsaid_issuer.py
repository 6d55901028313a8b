from __future__ import annotations

from isthmus.analyze.unsaid_issuer import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, ROUTES, found, tokens
from tests.analyze.test_unverified_token import policy

ONE = tokens("selector: {matchLabels: {app: orders}}\njwtRules: [{issuer: https://a}]")
TWO = tokens("selector: {matchLabels: {app: orders}}\njwtRules: [{issuer: https://a}, {issuer: https://b}]")
TAKEN = (
    "6 warning ISM5140: shop/orders-1 takes tokens of https://a, https://b, and this rule does not say whose it means"
)
COUNTS, NOBODYS = "what any of them says does", 'the claim "groups" of none of them counts'


def test_a_rule_that_does_not_say_whose_token_it_means() -> None:
    for rule, what in (
        ("{scopes: [a]}", COUNTS),
        ("{groups: [a]}", NOBODYS),
        ("{when: \"'a' in groups\"}", NOBODYS),
        ("{when: \"claims.sub == 'a'\"}", COUNTS),
    ):
        assert found(CHECK, policy(rule), ORDERS, TWO) == [f"{TAKEN}: {what}"]
        assert found(CHECK, policy(rule), ORDERS, ONE) == []


def test_a_rule_that_says_it_or_asks_for_no_claim() -> None:
    for rule in (
        "{groups: [a], issuers: [https://a]}",
        "{when: \"claims.iss == 'https://a' && 'a' in groups\"}",
        "{consumers: [a]}",
        "{methods: [GET]}",
    ):
        assert found(CHECK, policy(rule), ORDERS, TWO) == []


def test_a_route_that_takes_tokens_of_one() -> None:
    edge = "selector: {matchLabels: {app: edge}}\njwtRules: [{issuer: https://a}, {issuer: https://b}]"
    taken = tokens(edge, "edge")
    target = "targetRefs: [{kind: VirtualService, name: shop}]"

    def ours(kind: str, rest: str) -> str:
        head = f"apiVersion: isthmus.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: it, namespace: shop}}\n"
        return f"{head}spec:\n  {target}\n  {rest}\n"

    access = ours("AccessPolicy", "rules: [{groups: [a]}]")
    assert len(found(CHECK, access, GATEWAY, ROUTES, ORDERS, taken)) == 1
    clients = ours("ClientAuthentication", "methods: [{jwt: {issuers: [https://a]}}]")
    assert found(CHECK, access, GATEWAY, ROUTES, ORDERS, taken, clients) == []


def test_a_route_that_is_chosen_by_claims_has_the_tokens_of_all() -> None:
    taken = tokens("selector: {matchLabels: {app: edge}}\njwtRules: [{issuer: https://a}]", "edge")
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: {}\nmetadata: {{name: it, namespace: shop}}\nspec:\n"
    target = "  targetRefs: [{kind: VirtualService, name: shop, sectionName: %s}]\n"
    access = head.format("AccessPolicy") + target % "admin" + "  rules: [{groups: [a]}]\n"
    opaque = "{introspection: {issuer: https://o, endpoint: https://o/i, clientId: c, clientSecretRef: {name: s}}}"
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {client-secret: s}\n"
    clients = head.format("ClientAuthentication") + target % "rest" + f"  methods: [{opaque}]\n---\n{secret}"
    route = "route: [{destination: {host: orders}}]"
    of_a = "  methods: [{jwt: {issuers: [https://a]}}, {apiKey: {}}]\n"
    for match, count in (("uri: {prefix: /a}", 0), ('headers: {"@request.auth.claims.group": {exact: a}}', 1)):
        http = f"  http:\n    - {{name: admin, match: [{{{match}}}], {route}}}\n    - {{name: rest, {route}}}\n"
        routes = ROUTES[: ROUTES.index("  http:")] + http
        assert len(found(CHECK, access, GATEWAY, routes, ORDERS, taken, clients)) == count
        named = head.format("ClientAuthentication").replace("it,", "own,") + target % "admin" + of_a
        assert len(found(CHECK, access, GATEWAY, routes, ORDERS, taken, clients, named)) == count
