from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.filters.cors import Cors
from isthmus.filters.fault import Fault
from isthmus.model.match import Exact, Prefix, Regex, StringMatch, Suffix
from isthmus.model.route import (
    MESH,
    Action,
    ClaimMatch,
    Destination,
    DirectResponse,
    Forward,
    HeaderOperations,
    Headers,
    HttpRoute,
    Mirror,
    Redirect,
    Retry,
    Rewrite,
    RouteMatch,
    RouteTable,
)
from isthmus.xds.plain_route import pass_to, redirect_to_https, refuse
from isthmus.xds.route import Caller, build_routes, default_route

from .making import origin

ORDERS = Destination("orders.shop.svc.cluster.local", 80)
USERS = Destination("users.shop.svc.cluster.local", 80)
EDGE = Caller(
    gateway="shop/edge",
    namespace="shop",
    labels={"app": "edge"},
    port=80,
    request_port=18080,
    cluster_of=lambda destination: f"{destination.host.partition('.')[0]}-{destination.port}",
)
SIDECAR = Caller(MESH, "shop", {"app": "web", "version": "v1"}, 80, 80, EDGE.cluster_of)
EVERYTHING = RouteMatch()


def route(name: str = "route", *matches: RouteMatch, action: Action | None = None, **changes: Any) -> HttpRoute:
    return HttpRoute(name, matches, action or Forward((ORDERS,)), origin(name), **changes)


def table(*routes: HttpRoute, gateways: tuple[str, ...] = ("shop/edge", MESH)) -> RouteTable:
    return RouteTable("shop", "shop", ("shop.example.com",), gateways, routes, origin())


def built(*routes: HttpRoute, caller: Caller = EDGE) -> list[Any]:
    return build_routes([(table(*routes), caller)])


def only(*routes: HttpRoute, caller: Caller = EDGE) -> Any:
    (found,) = built(*routes, caller=caller)
    return found


def names(routes: list[Any]) -> list[str]:
    return [one.name for one in routes]


def path(prefix: str) -> RouteMatch:
    return RouteMatch(uri=Prefix(prefix))


def test_a_catch_all_comes_last_though_its_virtual_service_came_first() -> None:
    first = table(route("a", path("/a")), route("all", EVERYTHING))
    second = table(route("b", path("/b")), route("all-too", EVERYTHING))
    assert names(build_routes([(first, EDGE), (second, EDGE)])) == ["a", "b", "all"]


def test_a_catch_all_comes_last_over_several_gateways() -> None:
    other = Caller("shop/other", "shop", {}, 80, 80, EDGE.cluster_of)
    at_other = table(route("b", path("/b")), gateways=("shop/other",))
    assert names(build_routes([(table(route("all")), EDGE), (at_other, other)])) == ["b", "all"]


def test_what_stands_behind_a_catch_all_of_its_own_table_is_left_out() -> None:
    assert names(built(route("all"), route("never", path("/never")))) == ["all"]


@pytest.mark.parametrize(
    ("match", "everything"),
    [
        (EVERYTHING, True),
        (path("/"), True),
        (RouteMatch(uri=Prefix("/"), ignore_uri_case=True), True),
        (RouteMatch(uri=Exact("/")), False),
        (RouteMatch(uri=Regex(".*")), False),
        (RouteMatch(method=Exact("GET")), False),
        (RouteMatch(authority=Prefix("a")), False),
        (RouteMatch(scheme=Exact("https")), False),
        (RouteMatch(headers=(("x", Exact("1")),)), False),
        (RouteMatch(without_headers=(("x", Exact("1")),)), False),
        (RouteMatch(query=(("x", Exact("1")),)), False),
        (RouteMatch(claims=(ClaimMatch(("x",), Exact("1")),)), False),
        (RouteMatch(without_claims=(ClaimMatch(("x",), Exact("1")),)), False),
        (RouteMatch(stat_prefix="a"), True),
    ],
)
def test_what_takes_every_request(match: RouteMatch, everything: bool) -> None:
    assert names(built(route("first", match), route("second", path("/b")))) == (
        ["first"] if everything else ["first", "second"]
    )


@pytest.mark.parametrize(
    ("match", "caller", "applies"),
    [
        (EVERYTHING, EDGE, True),
        (RouteMatch(gateways=("shop/other",)), EDGE, False),
        (RouteMatch(gateways=(MESH,)), EDGE, False),
        (RouteMatch(gateways=(MESH,)), SIDECAR, True),
        (RouteMatch(port=80), EDGE, True),
        (RouteMatch(port=81), EDGE, False),
        (RouteMatch(source_labels=(("app", "web"),)), SIDECAR, True),
        (RouteMatch(source_labels=(("app", "web"), ("version", "v2"))), SIDECAR, False),
        (RouteMatch(source_namespace="shop"), SIDECAR, True),
        (RouteMatch(source_namespace="other"), SIDECAR, False),
        # Of a gateway's callers, these say nothing.
        (RouteMatch(source_labels=(("app", "web"),)), EDGE, True),
        (RouteMatch(source_namespace="other"), EDGE, True),
    ],
)
def test_who_calls_decides_when_routes_are_built(match: RouteMatch, caller: Caller, applies: bool) -> None:
    assert bool(built(route("r", match), caller=caller)) is applies


def test_a_table_that_is_not_bound_here_gives_nothing() -> None:
    assert build_routes([(table(route(), gateways=(MESH,)), EDGE)]) == []


def test_each_match_is_a_route() -> None:
    assert names(built(route("r", path("/a"), path("/b")))) == ["r", "r"]


@pytest.mark.parametrize(
    ("uri", "ignore_case", "expected"),
    [
        (None, False, ("prefix", "/")),
        (Exact("/a"), False, ("path", "/a")),
        (Prefix("/a"), True, ("prefix", "/a")),
        (Regex("/a.*"), False, ("regex", "/a.*")),
        (Regex("/a.*"), True, ("regex", "(?i)/a.*")),
    ],
)
def test_paths(uri: StringMatch | None, ignore_case: bool, expected: tuple[str, str]) -> None:
    match = only(route("r", RouteMatch(uri=uri, ignore_uri_case=ignore_case, method=Exact("GET")))).match
    found = {"prefix": match.prefix, "path": match.path, "regex": match.safe_regex.regex}
    assert {name: value for name, value in found.items() if value} == dict([expected])
    if expected[0] != "regex" and uri is not None:
        assert match.case_sensitive.value is not ignore_case


def test_no_path_matches_by_its_end() -> None:
    with pytest.raises(AssertionError, match="no uri match"):
        built(route("r", RouteMatch(uri=Suffix("x"))))


def test_headers_and_parameters() -> None:
    wanted = RouteMatch(
        method=Exact("GET"),
        authority=Prefix("shop"),
        scheme=Exact("https"),
        headers=(("x-a", Exact("1")),),
        without_headers=(("x-b", Exact("2")),),
        query=(("q", Regex("[0-9]+")),),
    )
    match = only(route("r", wanted)).match
    assert [(one.name, one.invert_match) for one in match.headers] == [
        (":method", False),
        (":authority", False),
        (":scheme", False),
        ("x-a", False),
        ("x-b", True),
    ]
    assert match.query_parameters[0].string_match.safe_regex.regex == "[0-9]+"


def test_one_destination_is_a_cluster_several_are_shares() -> None:
    assert only(route()).route.cluster == "orders-80"
    shares = only(
        route(action=Forward((Destination("orders.x", 80, weight=90), Destination("users.x", 81, weight=10))))
    ).route.weighted_clusters.clusters
    assert [(one.name, one.weight.value) for one in shares] == [("orders-80", 90), ("users-81", 10)]


def test_headers_of_a_destination_make_it_a_share_of_its_own() -> None:
    headers = Headers(HeaderOperations(set=(("Host", "inner"), ("x-a", "1"))), HeaderOperations(remove=("server",)))
    (share,) = only(
        route(action=Forward((Destination("orders.x", 80, headers=headers),)))
    ).route.weighted_clusters.clusters
    assert share.host_rewrite_literal == "inner"
    assert [one.header.key for one in share.request_headers_to_add] == ["x-a"]
    assert list(share.response_headers_to_remove) == ["server"]


@pytest.mark.parametrize(
    ("redirect", "scheme", "port"),
    [
        (Redirect(port=8443), "http", 8443),
        (Redirect(port_from_request=True), "http", 18080),
        (Redirect(port_of_scheme=True), "http", 80),
        (Redirect(port_of_scheme=True), "https", 443),
        (Redirect(port_of_scheme=True, scheme="https"), "http", 443),
        (Redirect(uri="/new"), "http", 0),
    ],
)
def test_the_port_of_a_redirect(redirect: Redirect, scheme: str, port: int) -> None:
    caller = Caller("shop/edge", "shop", {}, 80, 18080, EDGE.cluster_of, scheme)
    assert only(route(action=redirect), caller=caller).redirect.port_redirect == port


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_status_of_a_redirect(status: int) -> None:
    found = only(route(action=Redirect(status, "/new", "new.example.com", "https"))).redirect
    words = {
        301: "MOVED_PERMANENTLY",
        302: "FOUND",
        303: "SEE_OTHER",
        307: "TEMPORARY_REDIRECT",
        308: "PERMANENT_REDIRECT",
    }
    assert found.RedirectResponseCode.Name(found.response_code) == words[status]
    assert (found.path_redirect, found.host_redirect, found.scheme_redirect) == ("/new", "new.example.com", "https")


@pytest.mark.parametrize(
    ("uri", "rewrite", "field", "value"),
    [
        (Prefix("/a"), Rewrite(uri="/b"), "prefix_rewrite", "/b"),
        (None, Rewrite(uri="/b"), "prefix_rewrite", "/b"),
        # A whole path is replaced up to its query: neither an exact match nor a regex has a prefix to replace.
        (Exact("/a"), Rewrite(uri="/b"), "regex_rewrite", ("^/[^?]*", "/b")),
        (Regex("/a.*"), Rewrite(uri="/b"), "regex_rewrite", ("^/[^?]*", "/b")),
        (Exact("/a"), Rewrite(uri="/b\\1"), "regex_rewrite", ("^/[^?]*", "/b\\\\1")),
        (Prefix("/a"), Rewrite(uri_regex=("/(.*)", "/x/\\1")), "regex_rewrite", ("/(.*)", "/x/\\1")),
    ],
)
def test_rewriting_the_path(uri: StringMatch | None, rewrite: Rewrite, field: str, value: Any) -> None:
    match = RouteMatch(uri=uri, method=Exact("GET"))
    found = getattr(only(route("r", match, action=Forward((ORDERS,), rewrite))).route, field)
    assert (found if isinstance(found, str) else (found.pattern.regex, found.substitution)) == value


def test_the_authority_is_the_rewrites_before_the_headers() -> None:
    host = Headers(HeaderOperations(set=(("host", "by-header"),)))
    assert only(route(headers=host)).route.host_rewrite_literal == "by-header"
    both = route(headers=host, action=Forward((ORDERS,), Rewrite(authority="by-rewrite")))
    assert only(both).route.host_rewrite_literal == "by-rewrite"
    assert only(route()).route.host_rewrite_literal == ""


def test_header_operations() -> None:
    request = HeaderOperations(
        set=(("x-set", "1"), (":authority", "a"), ("Host", "b")),
        add=(("x-add", "2"),),
        remove=("x-gone", "Host", ":path", "gone"),
    )
    found = only(route(headers=Headers(request, HeaderOperations(set=(("x-r", ""),)))))
    action = found.request_headers_to_add[0].HeaderAppendAction.Name
    assert [(one.header.key, action(one.append_action)) for one in found.request_headers_to_add] == [
        ("x-set", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ("x-add", "APPEND_IF_EXISTS_OR_ADD"),
    ]
    assert list(found.request_headers_to_remove) == ["x-gone", "x_gone", "gone"], "Envoy refuses the others"
    assert found.response_headers_to_add[0].keep_empty_value


def test_retries() -> None:
    usual = only(route()).route.retry_policy
    assert (usual.num_retries.value, usual.retry_on) == (2, "connect-failure,refused-stream,unavailable,cancelled")
    assert usual.retry_host_predicate[0].name == "envoy.retry_host_predicates.previous_hosts"
    own = Retry(3, ("5xx", "reset", "5xx"), (503,), timedelta(seconds=1))
    found = only(route(action=Forward((ORDERS,), retry=own))).route.retry_policy
    assert found.retry_on == "5xx,reset,retriable-status-codes"
    assert list(found.retriable_status_codes) == [503]
    assert found.per_try_timeout.ToTimedelta() == timedelta(seconds=1)
    assert not only(route(action=Forward((ORDERS,), retry=Retry(0)))).route.HasField("retry_policy")


def test_the_wait_before_a_retry_and_where_it_goes() -> None:
    own = Retry(1, backoff=timedelta(milliseconds=250), avoid_previous_hosts=False)
    found = only(route(action=Forward((ORDERS,), retry=own))).route.retry_policy
    assert found.retry_back_off.base_interval.ToTimedelta() == timedelta(milliseconds=250)
    assert not found.retry_host_predicate
    assert not only(route()).route.retry_policy.HasField("retry_back_off")


def test_mirrors() -> None:
    copies = (Mirror(USERS), Mirror(Destination("copy.x", 81), 0.5))
    one, two = only(route(action=Forward((ORDERS,), mirrors=copies))).route.request_mirror_policies
    assert [mirror.cluster for mirror in (one, two)] == ["users-80", "copy-81"]
    assert [mirror.runtime_fraction.default_value.numerator for mirror in (one, two)] == [1_000_000, 5_000]
    assert one.trace_sampled.value is False


@pytest.mark.parametrize("body", ["", "text", b"\x00"])
def test_direct_responses(body: str | bytes) -> None:
    found = only(route(action=DirectResponse(410, body))).direct_response
    assert found.status == 410
    assert (found.body.inline_bytes if isinstance(body, bytes) else found.body.inline_string) == body
    assert found.HasField("body") is bool(body)


def test_a_redirect_by_prefix() -> None:
    assert only(route("r", path("/a"), action=Redirect(prefix="/b"))).redirect.prefix_rewrite == "/b"


def test_claims_and_statistics_of_a_match() -> None:
    wanted = ClaimMatch(("a",), Exact("1"))
    found = only(route("r", RouteMatch(claims=(wanted,), without_claims=(wanted,), stat_prefix="mine")))
    assert [one.invert for one in found.match.dynamic_metadata] == [False, True]
    assert found.stat_prefix == "mine"


def test_without_a_timeout_envoys_own_does_not_hold() -> None:
    assert only(route()).route.timeout.ToTimedelta() == timedelta()
    assert only(route()).route.HasField("timeout")
    timed = only(route(action=Forward((ORDERS,), timeout=timedelta(seconds=3))))
    assert timed.route.timeout.ToTimedelta() == timedelta(seconds=3)


def test_a_fault_is_the_routes_own() -> None:
    faulty = only(route(filters={Fault: Fault(abort_status=418, abort_percent=1.0)}))
    (config,) = faulty.typed_per_filter_config.values()
    fault: Any = unpack(config)
    assert fault.abort.http_status == 418
    assert not only(route()).typed_per_filter_config


def test_cors_is_the_routes_own() -> None:
    (config,) = only(route(filters={Cors: Cors((Exact("https://a.example"),))})).typed_per_filter_config.values()
    policy: Any = unpack(config)
    assert policy.allow_origin_string_match[0].exact == "https://a.example"


def test_routes_without_a_virtual_service() -> None:
    usual = default_route("default", ORDERS, SIDECAR)
    assert (usual.match.prefix, usual.route.cluster, usual.route.retry_policy.num_retries.value) == (
        "/",
        "orders-80",
        2,
    )
    https = redirect_to_https(8443).redirect
    assert (https.https_redirect, https.port_redirect) == (True, 8443)
    assert refuse("no", 502, "why\n").direct_response.status == 502
    assert pass_to("all", "cluster").route.cluster == "cluster"
    assert not pass_to("all", "cluster").route.HasField("retry_policy")
