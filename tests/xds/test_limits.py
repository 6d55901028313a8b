"""RateLimitPolicies in the proxy: which filters stand where, and what routes say."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.xds.snapshot import EXTENSION, message
from tests.xds.making import Given, compiled, entry, gateway, given, hcm_of, networking, service

SHOP = (gateway(hosts="*"), service("web"), entry("web-1"))
EARLY, CLIENT, SHADOW = "isthmus.limit.early", "isthmus.limit.client", "isthmus.limit.shadow"
CLOSED, OPEN = "isthmus.limit.global", "isthmus.limit.global_open"


def limits(name: str, *entries: str, attached: str = "", more: str = "") -> str:
    body = ", ".join(filter(None, (attached, f"limits: [{', '.join(entries)}]", more)))
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: RateLimitPolicy\n"
    return f"{head}metadata: {{name: {name}, namespace: shop}}\nspec: {{{body}}}\n"


def limit(name: str = "a", more: str = "") -> str:
    return f"{{name: {name}, requests: 3, per: 1m{', ' if more else ''}{more}}}"


def routes(name: str, *names: str) -> str:
    http = ", ".join(
        f"{{name: {one}, match: [{{uri: {{prefix: /{one}}}}}], route: [{{destination: {{host: web}}}}]}}"
        for one in names
    )
    return networking("VirtualService", name, f"{{hosts: [{name}.example.com], gateways: [edge], http: [{http}]}}")


def target(name: str, section: str = "", kind: str = "VirtualService") -> str:
    return f"targetRefs: [{{kind: {kind}, name: {name}{f', sectionName: {section}' if section else ''}}}]"


def edge(*texts: str) -> Given:
    done = compiled(*SHOP, *texts)
    assert not done.errors, list(done.report)
    return given(done.mesh, "edge")


def chain(found: Given, listener: str = "gateway_80") -> list[str]:
    (first, *_) = found.listener(listener).filter_chains
    return [one.name.rpartition("/")[2] for one in hcm_of(first).http_filters if "limit" in one.name]


def told(found: Given, name: str, listener: str = "gateway_80") -> Any:
    built: Any = message(found.snapshot.of(EXTENSION)[f"{listener}/{name}"])
    return unpack(built.typed_config)


def ids(config: Any) -> list[str]:
    return [one.actions[0].generic_key.descriptor_value for one in config.rate_limits]


def of_routes(found: Given) -> dict[str, dict[str, Any]]:
    (name,) = found.names("type.googleapis.com/envoy.config.route.v3.RouteConfiguration")
    hosts = found.virtual_hosts(name).values()
    return {
        route.name: dict(route.metadata.filter_metadata["isthmus.limits"])
        for host in hosts
        for route in host.routes
        if "isthmus.limits" in route.metadata.filter_metadata
    }


def test_without_a_policy_nothing_stands_there() -> None:
    found = edge(routes("shop", "a"))
    assert chain(found) == []
    assert of_routes(found) == {}


def test_each_sort_has_its_filter_in_its_place() -> None:
    every = (
        limit("early", "by: [{address: true}]"),
        limit("client", "by: [{claim: sub}]"),
        limit("trial", "shadow: true"),
        limit("counted", "scope: GLOBAL"),
        limit("lenient", "scope: GLOBAL, onFailure: ALLOW"),
    )
    found = edge(routes("shop", "a"), limits("all", *every))
    assert chain(found) == ["isthmus.limit.headers", EARLY, CLIENT, SHADOW, CLOSED, OPEN]
    for name, one in ((EARLY, "early"), (CLIENT, "client"), (SHADOW, "trial"), (CLOSED, "counted"), (OPEN, "lenient")):
        assert ids(told(found, name)) == [f"shop/all/{one}"]
    assert told(found, CLOSED).rate_limit_service.grpc_service.envoy_grpc.cluster_name == "isthmus_limits"


def test_who_tells_nothing_adds_no_headers() -> None:
    assert chain(edge(limits("all", limit(), more="headers: false"))) == [EARLY]


def test_routes_say_which_policies_hold_there() -> None:
    found = edge(
        routes("shop", "a", "b"),
        limits("everywhere", limit()),
        limits("one", limit(), attached=target("shop", "a")),
        limits("also", limit(), attached=target("shop", "a")),
    )
    assert of_routes(found) == {"a": {"specific": "yes", "shop/one": "yes", "shop/also": "yes"}}
    entries = [[(one.key, one.value) for one in each.entries[1:]] for each in told(found, EARLY).descriptors]
    assert entries == [[("specific", "-")], [("held", "yes")], [("held", "yes")]]


def test_the_route_before_its_table_before_the_gateway() -> None:
    found = edge(
        routes("shop", "a", "b"),
        routes("other", "c"),
        limits("gateway", limit(), attached=target("edge", kind="Gateway")),
        limits("table", limit(), attached=target("shop")),
        limits("route", limit(), attached=target("shop", "a")),
    )
    held = {name: sorted(fields.keys() - {"specific"}) for name, fields in of_routes(found).items()}
    assert held == {"a": ["shop/route"], "b": ["shop/table"], "c": ["shop/gateway"]}


def test_routes_tell_their_name_where_a_limit_asks() -> None:
    found = edge(routes("shop", "a", "b"), limits("each", limit("x", "by: [{route: true}]")))
    assert of_routes(found) == {"a": {"route": "shop/shop#a"}, "b": {"route": "shop/shop#b"}}


def test_what_the_service_counts_each_route_says_whole() -> None:
    found = edge(
        routes("shop", "a", "b"),
        limits("everywhere", limit("g", "scope: GLOBAL")),
        limits("one", limit("h", "scope: GLOBAL, onFailure: ALLOW"), attached=target("shop", "a")),
    )
    assert (ids(told(found, CLOSED)), ids(told(found, OPEN))) == (["shop/everywhere/g"], [""])
    (name,) = found.names("type.googleapis.com/envoy.config.route.v3.RouteConfiguration")
    by_name = {route.name: route for host in found.virtual_hosts(name).values() for route in host.routes}
    own = {key: unpack(value) for key, value in by_name["a"].typed_per_filter_config.items()}
    assert ids(own[f"gateway_80/{CLOSED}"]) == [""], "never"
    assert ids(own[f"gateway_80/{OPEN}"]) == ["shop/one/h"]
    assert not by_name["b"].typed_per_filter_config


def test_before_a_program() -> None:
    done = compiled(*SHOP, limits("web", limit(), attached="selector: {matchLabels: {app: web}}"))
    found = given(done.mesh, "web-1")
    names = [name for name in found.snapshot.of(EXTENSION) if "limit" in name]
    assert [name.rpartition("/")[2] for name in names] == [EARLY]
    assert chain(given(done.mesh, "edge")) == []
