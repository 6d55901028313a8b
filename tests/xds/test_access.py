from __future__ import annotations

from typing import Any

from isthmus.filters.access import Access, AccessReasons
from isthmus.model.access import Check
from isthmus.model.attachment import RoutePlace
from isthmus.model.predicate import Claim, Destination, leaves
from isthmus.xds.access import ACCESS, challenge
from isthmus.xds.context import Context
from isthmus.xds.policy import http_policy

from .making import compiled, context_of, gateway, networking

AT = Destination(80, "127.0.0.1")
OPAQUE = "{introspection: {issuer: https://o, endpoint: https://o/i, clientId: c, clientSecretRef: {name: s}}}"


def policy(name: str, attached: str, kind: str = "AccessPolicy", rest: str = "") -> str:
    rules = rest or f"rules: [{{name: {name}, methods: [GET]}}]"
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n"
    return f"{head}spec:\n  {attached}\n  {rules}\n"


def edge(*texts: str, matched: str = "") -> Context:
    """A gateway with routes ``one`` and ``two``; ``matched``: what they match, beside the path."""
    http = ", ".join(
        f"{{name: {name}, match: [{{uri: {{prefix: /{name}}}{matched}}}], route: [{{destination: {{host: web}}}}]}}"
        for name in ("one", "two")
    )
    table = networking("VirtualService", "shop", f"hosts: [shop.example.com]\ngateways: [edge]\nhttp: [{http}]")
    return context_of(compiled(gateway(), table, *texts).mesh, "edge")


def names(access: Access) -> list[str] | None:
    if access.rules is None:
        return None
    return [rule.name.rpartition("-rule[")[2].removesuffix("]") for rule in access.rules]


def at(context: Context, route: str) -> list[str] | None:
    configs: dict[type, Any] = dict(ACCESS.route(context, AT, RoutePlace("shop/edge", "http", "shop/shop", route)))
    return names(configs[Access])


ROUTE = "targetRefs: [{kind: VirtualService, name: shop, sectionName: one}]"
SELECTED = "selector: {matchLabels: {istio: edge}}"


def test_without_a_policy_there_is_no_filter() -> None:
    assert Access not in http_policy(edge(), AT).filters


def test_a_policy_of_a_route_leaves_the_others_alone() -> None:
    context = edge(policy("a", ROUTE))
    chain = http_policy(context, AT).filters[Access]
    assert (names(chain), chain.by_route) == (None, True)
    assert at(context, "one") == ["a"]


def test_equally_specific_ones_are_united_and_more_specific_ones_stand_alone() -> None:
    context = edge(policy("a", "selector: {}"), policy("b", "selector: {}"), policy("c", ROUTE))
    chain = http_policy(context, AT).filters[Access]
    assert names(chain) == ["a", "b"]
    assert at(context, "one") == ["c"]


def test_introspected_tokens_are_asked_only_where_there_can_be_any() -> None:
    assert http_policy(edge(policy("a", "selector: {}")), AT).filters[Access].introspection is False
    clients = policy("c", "selector: {}", "ClientAuthentication", f"methods: [{OPAQUE}]")
    assert http_policy(edge(policy("a", "selector: {}"), clients), AT).filters[Access].introspection is True


def test_the_reasons_are_found_out_in_a_filter_before() -> None:
    filters = http_policy(edge(policy("a", "selector: {}")), AT).filters
    assert filters[AccessReasons] == AccessReasons(filters[Access])


def test_what_is_told_to_those_who_lack_a_credential() -> None:
    access = policy("a", ROUTE)
    assert challenge(edge()) is None
    assert challenge(edge(access)) == "Bearer"
    keys = policy("c", "selector: {}", "ClientAuthentication", "methods: [{apiKey: {}}]")
    assert challenge(edge(keys)) is None
    assert challenge(edge(access, keys)) == "Bearer, ApiKey"


def test_a_rule_of_another_port_is_not_there() -> None:
    ports = "rules: [{name: here, ports: [80]}, {name: there, ports: [443]}, {name: any, methods: [GET]}]"
    context = edge(policy("a", "selector: {}", rest=ports), policy("b", ROUTE, rest=ports))
    assert names(http_policy(context, AT).filters[Access]) == ["here", "any"]
    assert at(context, "one") == ["here", "any"]
    elsewhere = edge(policy("a", "selector: {}", rest="rules: [{ports: [443]}]"))
    assert names(http_policy(elsewhere, AT).filters[Access]) == [], "nobody is let in"


TOKENS = """\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  selector: {matchLabels: {app: edge}}
  jwtRules: [{issuer: https://a, jwksUri: https://a/k}, {issuer: https://b, jwksUri: https://b/k}]
"""


def test_groups_of_tokens_do_not_count_among_several_issuers() -> None:
    groups = "rules: [{groups: [staff]}]"
    only_a = policy("c", ROUTE, "ClientAuthentication", "methods: [{jwt: {issuers: [https://a]}}]")

    def closed(*more: str) -> bool:
        context = edge(policy("a", ROUTE, rest=groups), *more)
        place = RoutePlace("shop/edge", "http", "shop/shop", "one")
        configs: dict[type, Any] = dict(ACCESS.route(context, AT, place))
        (asked,) = [asked for check, asked in configs[Access].rules[0].checks if check is Check.GROUPS]
        return not any(isinstance(leaf, Claim) for leaf in leaves(asked))

    assert not closed()
    assert closed(TOKENS)
    assert not closed(TOKENS, only_a), "at the route, of one"
    opaque = policy("o", ROUTE, "ClientAuthentication", f"methods: [{{jwt: {{issuers: [https://a]}}}}, {OPAQUE}]")
    assert closed(TOKENS, opaque)
    everywhere = edge(policy("a", "selector: {}", rest=groups), TOKENS, only_a)
    (rule,) = http_policy(everywhere, AT).filters[Access].rules
    assert not any(isinstance(leaf, Claim) for _, asked in rule.checks[1:] for leaf in leaves(asked)), "any route's"


def test_groups_of_whoever_a_request_may_come_from_by_way_of_another_route() -> None:
    """Where routes are chosen anew, it may have been another that took the token, whatever this one names."""
    place = RoutePlace("shop/edge", "http", "shop/shop", "one")
    only_a = TOKENS.replace(", {issuer: https://b, jwksUri: https://b/k}", "")
    other = policy("o", ROUTE.replace("one", "two"), "ClientAuthentication", f"methods: [{OPAQUE}]")
    asked = policy("a", ROUTE, rest="rules: [{groups: [staff]}]")
    named = policy("n", ROUTE, "ClientAuthentication", "methods: [{jwt: {issuers: [https://a]}}, {apiKey: {}}]")
    for matched, counts in (("", True), (', headers: {"@request.auth.claims.group": {exact: a}}', False)):
        for more in ((), (named,)):
            configs: dict[type, Any] = dict(ACCESS.route(edge(asked, only_a, other, *more, matched=matched), AT, place))
            (groups,) = [found for check, found in configs[Access].rules[0].checks if check is Check.GROUPS]
            assert any(isinstance(leaf, Claim) for leaf in leaves(groups)) is counts
