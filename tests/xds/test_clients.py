from __future__ import annotations

from typing import Any

from isthmus.filters.challenge import Challenge
from isthmus.filters.credentials import Credentials
from isthmus.filters.jwt_authn import JwtAuthn, JwtRequirement, JwtRoute, Missing
from isthmus.filters.one_token import OneToken
from isthmus.model.attachment import RoutePlace
from isthmus.model.client_authentication import read_accepted
from isthmus.model.predicate import Destination
from isthmus.xds.clients import CLIENTS
from isthmus.xds.context import Context
from isthmus.xds.policy import http_policy

from .making import compiled, context_of, entry, gateway, networking, security

A, B = "https://a", "https://b"
AT = Destination(80, "127.0.0.1")
TOKENS = security("RequestAuthentication", "tokens", f"jwtRules: [{{issuer: '{A}'}}, {{issuer: '{B}'}}]")
KEY = "{apiKey: {headers: [x-key]}}"
OPAQUE = "{introspection: {issuer: https://o, endpoint: https://o/i, clientId: c, clientSecretRef: {name: s}}}"


def authentication(name: str, *methods: str, to: str = "", required: bool = True) -> str:
    target = f"targetRefs: [{{kind: VirtualService, name: shop, sectionName: {to or name}}}]"
    if to.startswith("app"):
        target = f"selector: {{matchLabels: {{{to}}}}}"
    if to == "gateway":
        target = "targetRefs: [{kind: Gateway, name: edge}]"
    return (
        f"apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec:\n  {target}\n  required: {str(required).lower()}\n  methods: [{', '.join(methods)}]\n"
    )


def jwt(*issuers: str) -> str:
    return f"{{jwt: {{issuers: [{', '.join(issuers)}]}}}}"


def edge(*texts: str, match: str = "") -> Context:
    http = ", ".join(
        f"{{name: {name}, match: [{{uri: {{prefix: /{name}}}{match}}}], route: [{{destination: {{host: web}}}}]}}"
        for name in ("one", "two")
    )
    table = networking("VirtualService", "shop", f"hosts: [shop.example.com]\ngateways: [edge]\nhttp: [{http}]")
    return context_of(compiled(gateway(), table, TOKENS, *texts).mesh, "edge")


def at(context: Context, route: str) -> dict[type, Any]:
    return dict(CLIENTS.route(context, AT, RoutePlace("shop/edge", "http", "shop/shop", route)))


def test_without_a_policy_nothing_is_added() -> None:
    filters = http_policy(edge(), AT).filters
    assert not {Challenge, Credentials, OneToken} & filters.keys()
    assert filters[JwtAuthn].requirements == ()


def test_tokens_alone_are_asked_for_without_a_question() -> None:
    context = edge(authentication("one", jwt(A)), authentication("two", jwt(A, B), required=False))
    filters = http_policy(context, AT).filters
    assert Credentials not in filters
    assert {Challenge, OneToken} <= filters.keys()
    one, two = JwtRequirement((A,), Missing.REFUSED), JwtRequirement((A, B), Missing.ALLOWED)
    assert at(context, "one") == {JwtRoute: JwtRoute(one)}
    assert at(context, "two") == {JwtRoute: JwtRoute(two)}
    # Each issuer alone, too: routes and filters do not change in the same instant.
    assert set(filters[JwtAuthn].requirements) == {one, two, JwtRequirement((B,), Missing.REFUSED)}
    assert filters[JwtAuthn].everywhere is None


def test_methods_side_by_side_are_the_process_to_judge() -> None:
    context = edge(authentication("one", jwt(A), KEY), authentication("two", jwt(A), OPAQUE))
    filters = http_policy(context, AT).filters
    assert filters[Credentials] == Credentials(None, ("x-key",))
    one, two = at(context, "one"), at(context, "two")
    assert one[JwtRoute].requirement == JwtRequirement((A,), Missing.ALLOWED)
    assert two[JwtRoute].requirement == JwtRequirement((A,), Missing.WHATEVER)
    assert read_accepted(one[Credentials].accepts).api_key is not None
    assert read_accepted(two[Credentials].accepts).introspection is not None


def test_where_tokens_are_no_method() -> None:
    context = edge(authentication("one", KEY), authentication("two", OPAQUE))
    # What RequestAuthentications say holds on; opaque tokens stand where JWTs do.
    assert at(context, "one")[JwtRoute].requirement == JwtRequirement((A, B), Missing.ALLOWED)
    assert at(context, "two")[JwtRoute].requirement is None


def test_a_closer_policy_takes_the_place_of_a_wider_one_whole() -> None:
    context = edge(authentication("all", KEY, to="app: edge"), authentication("one", jwt(B)))
    filters = http_policy(context, AT).filters
    assert read_accepted(filters[Credentials].accepts).api_key is not None
    assert at(context, "one")[JwtRoute].requirement == JwtRequirement((B,), Missing.REFUSED)
    assert at(context, "one")[Credentials].accepts is None
    assert filters[JwtAuthn].everywhere == JwtRoute(JwtRequirement((A, B), Missing.ALLOWED))


def test_a_gateways_policy_holds_at_every_route_of_it_but_those_named() -> None:
    context = edge(authentication("all", jwt(A), to="gateway"), authentication("one", jwt(B)))
    assert http_policy(context, AT).filters[JwtAuthn].everywhere is None
    assert [at(context, name)[JwtRoute].requirement.issuers for name in ("one", "two")] == [(B,), (A,)]


def test_an_issuer_without_keys_lets_nobody_in() -> None:
    context = edge(authentication("one", jwt("https://c")))
    (stand_in,) = [one for one in http_policy(context, AT).filters[JwtAuthn].rules if one.rule.issuer == "https://c"]
    assert stand_in.jwks is None


def test_where_claims_choose_routes_the_process_looks_after_the_choice() -> None:
    asking = ', headers: {"@request.auth.claims.role": {exact: admin}}'
    context = edge(authentication("one", jwt(A)), match=asking)
    assert Credentials in http_policy(context, AT).filters
    found = at(context, "one")
    assert found[JwtRoute].requirement == JwtRequirement((A,), Missing.ALLOWED)
    assert read_accepted(found[Credentials].accepts).issuers == (A,)


def test_a_workloads_own() -> None:
    texts = (entry("orders-1"), TOKENS, authentication("orders", jwt(A), to="app: orders"))
    context = context_of(compiled(*texts).mesh, "orders-1")
    everywhere = http_policy(context, Destination(8080, "127.0.0.1")).filters[JwtAuthn].everywhere
    assert everywhere == JwtRoute(JwtRequirement((A,), Missing.REFUSED))
