from __future__ import annotations

from isthmus.xds.token_rule import jwt_authn, jwt_rules, request_policies

from .making import compiled, context_of, entry, gateway, networking, security

RULES = security("RequestAuthentication", "b", "jwtRules: [{issuer: 'https://b'}]")
OTHERS = security(
    "RequestAuthentication", "a", "selector: {matchLabels: {app: orders}}\njwtRules: [{issuer: 'https://a'}]"
)


def test_rules_are_united_by_issuer() -> None:
    context = context_of(compiled(entry("orders-1"), RULES, OTHERS).mesh, "orders-1")
    assert [policy.name for policy in request_policies(context)] == ["b", "a"]
    assert [rule.issuer for rule in jwt_rules(context)] == ["https://a", "https://b"]
    assert [one.rule.issuer for one in jwt_authn(context).rules] == ["https://a", "https://b"]
    elsewhere = context_of(compiled(entry("users-1"), RULES, OTHERS).mesh, "users-1")
    assert [rule.issuer for rule in jwt_rules(elsewhere)] == ["https://b"]


def test_the_route_is_chosen_anew_where_routes_ask_for_claims() -> None:
    routes = (
        "hosts: [shop.example.com]\ngateways: [edge]\nhttp: [{match: [{MATCH}], route: [{destination: {host: a}}]}]"
    )
    asking = 'headers: {"@request.auth.claims.role": {exact: admin}}'
    for match, anew in (("uri: {prefix: /}", False), (asking, True)):
        table = networking("VirtualService", "shop", routes.replace("MATCH", match))
        assert jwt_authn(context_of(compiled(gateway(), RULES, table).mesh, "edge")).clear_route_cache is anew
