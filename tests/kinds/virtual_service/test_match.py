from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.match import Exact, Prefix, Present, Regex
from isthmus.model.route import ClaimMatch, RouteMatch


def match(written: str) -> Compiled:
    """``written`` begins at 7:13."""
    spec = f"hosts: [orders]\nhttp:\n- match: [{written}]\n  route: [{{destination: {{host: orders}}}}]"
    return compiled(networking("VirtualService", spec), ORDERS)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{uri: {exact: /a}}", RouteMatch(uri=Exact("/a"))),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", RouteMatch(uri=Prefix("/a"), ignore_uri_case=True)),
        ('{uri: {regex: "/a/[0-9]+"}}', RouteMatch(uri=Regex("/a/[0-9]+"))),
        ("{method: {exact: GET}}", RouteMatch(method=Exact("GET"))),
        ("{authority: {prefix: a}}", RouteMatch(authority=Prefix("a"))),
        ("{scheme: {exact: https}}", RouteMatch(scheme=Exact("https"))),
        ("{headers: {X-A: {exact: b}}}", RouteMatch(headers=(("x-a", Exact("b")),))),
        ("{headers: {x-a: {}}}", RouteMatch(headers=(("x-a", Present()),))),
        ('{headers: {x-a: {regex: "*"}}}', RouteMatch(headers=(("x-a", Present()),))),
        ("{withoutHeaders: {X-A: {}}}", RouteMatch(without_headers=(("x-a", Present()),))),
        ("{queryParams: {Page: {exact: '2'}}}", RouteMatch(query=(("Page", Exact("2")),))),
        ("{port: 8080}", RouteMatch(port=8080)),
        ("{gateways: [mesh]}", RouteMatch(gateways=("mesh",))),
        ("{gateways: []}", RouteMatch()),
        ("{sourceLabels: {b: c, a: b}}", RouteMatch(source_labels=(("a", "b"), ("b", "c")))),
        ("{sourceNamespace: shop}", RouteMatch(source_namespace="shop")),
        ("{name: a name for people}", RouteMatch()),
        ("{statPrefix: a}", RouteMatch(stat_prefix="a")),
        (
            '{headers: {"@request.auth.claims.realm.name": {exact: eu}, x-a: {}}}',
            RouteMatch(headers=(("x-a", Present()),), claims=(ClaimMatch(("realm", "name"), Exact("eu")),)),
        ),
        (
            '{withoutHeaders: {"@Request.Auth.Claims[realm][a.b]": {}}}',
            RouteMatch(without_claims=(ClaimMatch(("realm", "a.b"), Present()),)),
        ),
    ],
)
def test_what_a_match_asks_for(written: str, expected: RouteMatch) -> None:
    done = match(written)
    assert done.found == []
    assert done.mesh.routes[0].routes[0].matches == (expected,)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("{uri: {exact: /a, prefix: /b}}", "7:19 error ISM1106"),
        ("{uri: {}}", "7:19 error ISM1106"),
        ('{uri: {prefix: ""}}', "7:19 error ISM1106"),
        ('{uri: {regex: "*"}}', "7:19 error ISM1106"),
        ('{uri: {regex: "/(?!a)"}}', "7:27 error IST0122"),
        ('{headers: {a: {regex: "("}}}', "7:35 error IST0122"),
        ("{uri: {suffix: /a}}", "7:20 error ISM1101"),
        ("{method: GET}", "7:22 error ISM1102"),
        ("{port: 0}", "7:20 error ISM1106"),
        ('{headers: {"a b": {}}}', "7:31 error ISM1106"),
        ('{headers: {"@request.auth.claims": {exact: admin}}}', "7:48 error ISM1106"),
        ('{withoutHeaders: {"@request.auth.claims[group": {}}}', "7:61 error ISM1106"),
        ('{headers: {"@request.auth.claims.a..b": {}}}', "7:53 error ISM1106"),
        ('{headers: {"@request.auth.claim.a": {}}}', "7:49 error ISM1106"),
        ('{gateways: [""]}', "7:25 error ISM1106"),
        ("{statPrefix: x, prt: 1}", "7:29 error ISM1101"),
    ],
)
def test_matches_that_cannot_be_read(written: str, found: str) -> None:
    done = match(written)
    assert [one for one in done.found if "error" in one] == [found]
    assert not done.mesh.routes


def test_a_path_without_its_slash_is_warned_about() -> None:
    assert match("{uri: {prefix: api}}").found == ["7:19 warning ISM2120"]
    assert match("{uri: {exact: api}}").found == ["7:19 warning ISM2120"]
