from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.filters.cors import Cors
from isthmus.model.match import Exact, Prefix, Present, Regex
from isthmus.model.route import ClaimMatch, DirectResponse, Forward, HttpRoute, RouteMatch

ROUTE = "route: [{destination: {host: orders}}]"
ROOT = "- delegate: {name: team}"


def delegating(root: str, *routes: str, name: str = "team", namespace: str = "shop") -> Compiled:
    """The root's routes begin at 7:3, the delegate's at 6 of its own document."""
    delegate = networking("VirtualService", "http:\n" + "\n".join(routes), name, namespace)
    return compiled(networking("VirtualService", f"hosts: [orders]\nhttp:\n{root}"), ORDERS, delegate)


def merged(root: str, *routes: str) -> tuple[HttpRoute, ...]:
    done = delegating(root, *routes)
    assert done.found == []
    return done.mesh.routes[0].routes


def test_the_delegate_s_routes_stand_in_the_place_of_the_root_s() -> None:
    one, two, last = merged(
        f"{ROOT}\n  match: [{{uri: {{prefix: /a}}}}]\n- {ROUTE}",
        f"- match: [{{uri: {{exact: /a/1}}}}]\n  {ROUTE}",
        f"- {ROUTE}",
    )
    assert [one.name, two.name, last.name] == ["shop/team/http[0]", "shop/team/http[1]", "shop/web/http[1]"]
    assert [route.matches for route in (one, two, last)] == [
        (RouteMatch(uri=Exact("/a/1")),),
        (RouteMatch(uri=Prefix("/a")),),
        (),
    ]
    assert one.origin.ref.name == "team"


def test_what_the_delegate_does_not_say_the_root_does() -> None:
    root = (
        f"{ROOT}\n  name: root\n  timeout: 5s\n  retries: {{attempts: 7}}\n  rewrite: {{uri: /x}}\n"
        "  mirror: {host: orders}\n  mirrorPercentage: {value: 5}\n  headers: {request: {remove: [a]}}\n"
        "  corsPolicy: {allowOrigins: [{exact: https://a.example}]}"
    )
    silent, own = merged(
        root, f"- {ROUTE}\n  match: [{{uri: {{exact: /1}}}}]", f"- {ROUTE}\n  name: own\n  timeout: 1s\n  headers: {{}}"
    )
    assert (silent.name, own.name) == ("root", "root-own")
    assert isinstance(silent.action, Forward)
    assert isinstance(own.action, Forward)
    assert (silent.action.timeout, own.action.timeout) == (timedelta(seconds=5), timedelta(seconds=1))
    assert (silent.headers.request.remove, own.headers.request.remove) == (("a",), ())
    for route in (silent, own):
        assert isinstance(route.action, Forward)
        assert route.action.retry.attempts == 7
        assert route.action.rewrite is not None
        assert [mirror.percent for mirror in route.action.mirrors] == [5]
        assert Cors in route.filters


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", RouteMatch(uri=Prefix("/a/b"))),
        ("{uri: {exact: /a}}", "{uri: {exact: /a}}", RouteMatch(uri=Exact("/a"))),
        ("{uri: {regex: /a.*}}", "{method: {exact: GET}}", RouteMatch(uri=Regex("/a.*"), method=Exact("GET"))),
        ("{port: 80}", "{scheme: {exact: http}}", RouteMatch(port=80, scheme=Exact("http"))),
        (
            "{headers: {x-a: {}}}",
            "{headers: {x-a: {exact: b}, x-c: {}}}",
            RouteMatch(headers=(("x-a", Exact("b")), ("x-c", Present()))),
        ),
        (
            "{withoutHeaders: {x-a: {}}, queryParams: {q: {prefix: a}}}",
            "{withoutHeaders: {x-b: {}}, queryParams: {q: {exact: ab}}}",
            RouteMatch(without_headers=(("x-a", Present()), ("x-b", Present())), query=(("q", Exact("ab")),)),
        ),
        (
            '{headers: {"@request.auth.claims.a": {exact: b}}}',
            '{headers: {"@request.auth.claims.c": {exact: d}}}',
            RouteMatch(claims=(ClaimMatch(("a",), Exact("b")), ClaimMatch(("c",), Exact("d")))),
        ),
        ("{gateways: [mesh], sourceNamespace: a}", "{}", RouteMatch(gateways=("mesh",), source_namespace="a")),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", "{}", RouteMatch(uri=Prefix("/a"), ignore_uri_case=True)),
    ],
)
def test_matches_are_both(root: str, own: str, expected: RouteMatch) -> None:
    (route,) = merged(f"{ROOT}\n  match: [{root}]", f"- match: [{own}]\n  {ROUTE}")
    assert route.matches == (expected,)


@pytest.mark.parametrize(
    ("root", "own"),
    [
        ("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}"),
        ("{uri: {exact: /a}}", "{uri: {prefix: /a}}"),
        ("{uri: {prefix: /a}}", "{uri: {regex: /a.*}}"),
        ("{uri: {regex: /a.*}}", "{uri: {exact: /a}}"),
        ("{method: {exact: GET}}", "{method: {exact: POST}}"),
        ("{headers: {x-a: {exact: b}}}", "{headers: {x-a: {}}}"),
        ("{queryParams: {q: {exact: a}}}", "{queryParams: {q: {exact: b}}}"),
        ("{port: 80}", "{port: 81}"),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", "{uri: {prefix: /a}}"),
        (
            '{headers: {"@request.auth.claims.a": {exact: b}}}',
            '{headers: {"@request.auth.claims[a]": {exact: c}}}',
        ),
    ],
)
def test_what_is_not_left_to_the_delegate_it_does_not_get(root: str, own: str) -> None:
    done = delegating(f"{ROOT}\n  match: [{root}]\n- {ROUTE}", f"- match: [{own}]\n  {ROUTE}")
    assert [found.split()[1:] for found in done.found] == [["warning", "ISM2155"]]
    assert "this route is left out where VirtualService/shop/web delegates" in done.messages
    assert [route.name for route in done.mesh.routes[0].routes] == ["shop/web/http[1]"]


def test_one_of_several_matches_is_enough_of_the_root_s_and_each_of_the_delegate_s_needs_one() -> None:
    root = f"{ROOT}\n  match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /b}}}}]"
    (route,) = merged(root, f"- match: [{{uri: {{exact: /b/1}}}}, {{method: {{exact: GET}}}}]\n  {ROUTE}")
    assert [match.uri for match in route.matches] == [Exact("/b/1"), Prefix("/a"), Prefix("/b")]
    outside = delegating(root, f"- match: [{{uri: {{exact: /b/1}}}}, {{uri: {{exact: /c}}}}]\n  {ROUTE}")
    assert "ISM2155" in outside.found[0]


def test_names_without_a_dot_are_of_the_delegate_s_namespace() -> None:
    done = delegating("- delegate: {name: team, namespace: other}", f"- {ROUTE}", namespace="other")
    assert [found.split()[1:] for found in done.found] == [["error", "IST0101"]]
    action = done.mesh.routes[0].routes[0].action
    assert isinstance(action, Forward)
    assert action.destinations[0].host == "orders.other.svc.cluster.local"


def test_a_delegate_that_is_not_there_leaves_its_requests_to_nobody() -> None:
    done = delegating(f"- delegate: {{name: tema}}\n- {ROUTE}", f"- {ROUTE}")
    assert done.found[0] == "7:22 error IST0101"
    assert 'no VirtualService without hosts named "shop/tema" (did you mean "shop/team"?)' in done.messages
    assert done.mesh.routes[0].routes[0].action == DirectResponse(503)
    assert "ISM2154" in done.found[-1], "and that one is of no use"


def test_one_with_hosts_is_no_delegate() -> None:
    spec = f"hosts: [users]\nhttp:\n- {ROUTE}"
    root = networking("VirtualService", f"hosts: [orders]\nhttp:\n{ROOT}")
    done = compiled(root, ORDERS, networking("VirtualService", spec, "team"))
    assert done.found == ["7:22 error IST0101"]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (f"gateways: [edge]\nhttp:\n- {ROUTE}", "5:13 error ISM1106"),
        ("http:\n- delegate: {name: other}", "6:15 error ISM1106"),
        (f"http:\n- match: [{{gateways: [edge]}}]\n  {ROUTE}", "6:24 error ISM1106"),
        (f"http:\n- match: [{{sourceLabels: {{a: b}}}}]\n  {ROUTE}", "6:28 error ISM1106"),
        (f"http:\n- {ROUTE}", "5:3 warning ISM2154"),
    ],
)
def test_what_a_delegate_may_not_say(spec: str, found: str) -> None:
    assert compiled(networking("VirtualService", spec), ORDERS).found == [found]


def test_a_delegate_of_two() -> None:
    root = networking("VirtualService", f"hosts: [orders]\nhttp:\n{ROOT}\n  match: [{{uri: {{prefix: /a}}}}]")
    second = networking("VirtualService", f"hosts: [users]\nhttp:\n{ROOT}", "second")
    done = compiled(root, ORDERS, second, networking("VirtualService", f"http:\n- {ROUTE}", "team"))
    assert done.found == []
    assert [table.routes[0].matches for table in done.mesh.routes] == [(RouteMatch(uri=Prefix("/a")),), ()]


def test_what_hides_a_delegate_s_route() -> None:
    done = delegating(f"- {ROUTE}\n{ROOT}", f"- {ROUTE}")
    assert [found.split()[1:] for found in done.found] == [["warning", "IST0130"]]
