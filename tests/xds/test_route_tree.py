from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.xds.route_tree import SMALLEST, virtual_host

from .route_list import REQUESTS, TABLES, Request, first, found, header, route


def _leaves(host: Any) -> dict[str, list[str]]:
    tree = host.matcher
    built = {key: leaf.action for key, leaf in tree.matcher_tree.prefix_match_map.map.items()}
    if tree.HasField("on_no_match"):
        built[""] = tree.on_no_match.action
    names: dict[str, list[str]] = {}
    for key, action in built.items():
        leaf: Any = unpack(action.typed_config)
        names[key] = [one.name for one in leaf.routes]
    return names


def _table(count: int, *more: Any) -> list[Any]:
    return [*(route(f"p{number:02}", {"prefix": f"/p{number:02}/"}) for number in range(count)), *more]


@given(TABLES, st.lists(REQUESTS, min_size=40, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_tree_finds_the_route_that_the_list_gives(routes: list[Any], requests: list[Request]) -> None:
    host = virtual_host("h", ["*"], routes)
    assume(host.HasField("matcher"))
    for request in requests:
        assert found(host.matcher, request) == first(routes, request), request


def test_few_routes_are_a_list() -> None:
    few = virtual_host("h", ["a", "b"], _table(SMALLEST - 1))
    assert (few.name, list(few.domains), len(few.routes)) == ("h", ["a", "b"], SMALLEST - 1)
    assert not few.HasField("matcher")
    many = virtual_host("h", ["a", "b"], _table(SMALLEST))
    assert (many.name, list(many.domains), len(many.routes)) == ("h", ["a", "b"], 0)
    assert many.HasField("matcher")


def test_each_leaf_has_what_can_match_there_in_order() -> None:
    table = [
        route("maybe", {"prefix": "/", "headers": [header("x", "1")]}),
        *_table(SMALLEST),
        route("exact", {"path": "/p00/x"}),
        route("deeper", {"prefix": "/p00/x/"}),
        route("rest", {"prefix": "/"}),
        route("never", {"prefix": "/p99"}),
    ]
    leaves = _leaves(virtual_host("h", ["*"], table))
    assert leaves["/p00/"] == ["maybe", "p00"]
    assert leaves["/p00/x"] == ["maybe", "p00"], "an earlier route takes it: the exact one is never reached"
    assert leaves["/"] == ["maybe", "rest"]
    assert leaves["/p99"] == ["maybe", "rest"]
    assert "" not in leaves, "no route takes a path without a slash"


@pytest.mark.parametrize(
    "where",
    [
        {"prefix": "/p00/", "headers": [header("x", "1")]},
        {"prefix": "/p00/", "case_sensitive": protobuf.BoolValue(value=False)},
        {"prefix": "/p00/", "grpc": route_v3.RouteMatch.GrpcRouteMatchOptions()},
        {"path_separated_prefix": "/p00"},
        {"path": "/p00/"},
    ],
)
def test_what_may_fail_leaves_the_next_its_turn(where: dict[str, Any]) -> None:
    table = [route("first", where), *_table(SMALLEST)]
    assert _leaves(virtual_host("h", ["*"], table))["/p00/"] == ["first", "p00"]


def test_what_says_nothing_of_the_path_is_asked_everywhere() -> None:
    connect = route("connect", {"connect_matcher": route_v3.RouteMatch.ConnectMatcher()})
    leaves = _leaves(virtual_host("h", ["*"], [connect, *_table(SMALLEST)]))
    assert leaves[""] == ["connect"]
    assert leaves["/p00/"] == ["connect", "p00"]


def test_a_route_that_counts_for_itself_is_not_copied() -> None:
    table = _table(SMALLEST)
    limit = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    table[0].typed_per_filter_config["limit"].CopyFrom(protobuf.Any(type_url=limit))
    assert not virtual_host("h", ["*"], table).HasField("matcher")
