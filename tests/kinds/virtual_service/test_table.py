from __future__ import annotations

import pytest
from traffic_manifest import EDGE, ORDERS, USERS, Compiled, compiled, networking

from isthmus.model.route import Destination, Forward, RouteTable

TO_ORDERS = "- route: [{destination: {host: orders}}]"
SUBSETS = networking("DestinationRule", "host: orders\nsubsets: [{name: stable, labels: {version: v1}}]", "orders")


def service(http: str, hosts: str = "[orders]", gateways: str = "[mesh]", **options: str) -> str:
    """Routes begin at line 8."""
    return networking("VirtualService", f"hosts: {hosts}\ngateways: {gateways}\nhttp:\n{http}", **options)


def only(done: Compiled) -> RouteTable:
    (table,) = done.mesh.routes
    return table


def destinations(done: Compiled) -> tuple[Destination, ...]:
    action = only(done).routes[0].action
    assert isinstance(action, Forward)
    return action.destinations


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_a_table_for_the_mesh(version: str) -> None:
    text = networking("VirtualService", f"hosts: [orders]\nhttp:\n{TO_ORDERS}", version=version)
    done = compiled(text, ORDERS)
    assert done.found == []
    table = only(done)
    assert (table.name, table.namespace) == ("web", "shop")
    assert table.hosts == ("orders.shop.svc.cluster.local",)
    assert table.gateways == ("mesh",)
    (route,) = table.routes
    assert route.name == "shop/web/http[0]"
    assert route.matches == ()
    assert str(route.origin.source) == "<stdin>:7:5"
    assert destinations(done) == (Destination("orders.shop.svc.cluster.local", 80),)


def test_gateways_by_short_and_long_names() -> None:
    done = compiled(service(TO_ORDERS, "[a.example.com]", "[edge, shop/edge, mesh]"), ORDERS, EDGE)
    assert done.found == []
    assert only(done).gateways == ("shop/edge", "mesh")


def test_an_unknown_gateway_is_told_and_binds_to_nothing() -> None:
    done = compiled(service(TO_ORDERS, "[a.example.com]", "[egde, other/edge]"), ORDERS, EDGE)
    assert done.found == ["6:14 error IST0101", "6:20 error IST0101"]
    assert 'no gateway named "egde" (did you mean "edge"?)' in done.messages
    assert 'no gateway named "other/edge" (did you mean "shop/edge"?)' in done.messages
    assert only(done).gateways == ("shop/egde", "other/edge")


def test_a_match_names_gateways_likewise() -> None:
    routes = "- match: [{gateways: [edge, none]}]\n  route: [{destination: {host: orders}}]"
    done = compiled(service(routes, "[a.example.com]", "[edge, mesh]"), ORDERS, EDGE)
    assert done.found == ["8:31 error IST0101"]
    assert only(done).routes[0].matches[0].gateways == ("shop/edge", "shop/none")


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ("[a.example.com]", []),
        ('["*.b.example.com"]', []),
        ("[a.example.com, shop.example.org]", ["5:26 warning IST0132"]),
    ],
)
def test_a_host_that_the_gateway_does_not_serve(hosts: str, found: list[str]) -> None:
    assert compiled(service(TO_ORDERS, hosts, "[edge]"), ORDERS, EDGE).found == found


def test_a_server_for_other_namespaces_does_not_serve_this_one() -> None:
    other = EDGE.replace('"*.example.com"', '"other/*.example.com"')
    assert compiled(service(TO_ORDERS, "[a.example.com]", "[edge]"), ORDERS, other).found == ["5:11 warning IST0132"]


def test_a_destination_that_does_not_exist_stays_and_the_rest_holds() -> None:
    routes = "- route: [{destination: {host: order, port: {number: 81}}}]\n" + TO_ORDERS.replace(
        "- r", "- name: n\n  r"
    )
    done = compiled(service(routes, "[a.example.com]"), ORDERS)
    assert done.found == ["8:34 error IST0101", "9:5 warning IST0130"]
    assert 'no service named "order" (did you mean "orders"?)' in done.messages
    assert destinations(done) == (Destination("order.shop.svc.cluster.local", 81),)
    assert len(only(done).routes) == 2


@pytest.mark.parametrize(
    ("host", "hint"),
    [
        ("orders.shop", '(did you mean "orders.shop.svc.cluster.local"?)'),
        ("orders.shp.svc.cluster.local", '(did you mean "orders.shop.svc.cluster.local"?)'),
    ],
)
def test_what_was_meant_by_a_wrong_host(host: str, hint: str) -> None:
    done = compiled(service(f"- route: [{{destination: {{host: {host}}}}}]"), ORDERS)
    assert done.found == ["8:34 error IST0101"]
    assert hint in done.messages


def test_a_short_name_is_of_the_rules_own_namespace() -> None:
    done = compiled(service(TO_ORDERS, "[a.example.com]", namespace="other"), ORDERS)
    assert done.found == ["8:34 error IST0101"]
    assert '(did you mean "orders.shop.svc.cluster.local"?)' in done.messages
    assert destinations(done)[0].host == "orders.other.svc.cluster.local"


def test_a_service_of_several_ports_needs_a_port() -> None:
    done = compiled(service("- route: [{destination: {host: users}}]"), USERS)
    assert done.found == ["8:27 error IST0112"]
    assert "(80, 9090)" in done.messages
    assert destinations(done)[0].port == 0
    named = compiled(service("- route: [{destination: {host: users, port: {number: 9090}}}]"), USERS)
    assert named.found == []
    assert destinations(named)[0].port == 9090


def test_a_port_that_the_service_does_not_have() -> None:
    done = compiled(service("- route: [{destination: {host: users, port: {number: 81}}}]"), USERS)
    assert done.found == ["8:56 error IST0101"]
    assert 'no port of users.shop.svc.cluster.local named "81" (it has 80, 9090)' in done.messages


def test_subsets() -> None:
    known = "- route: [{destination: {host: orders, subset: stable}}]"
    done = compiled(service(known), ORDERS, SUBSETS)
    assert done.found == []
    assert destinations(done)[0].subset == "stable"
    unknown = compiled(service(known.replace("stable", "stabel")), ORDERS, SUBSETS)
    assert unknown.found == ["8:50 error IST0101"]
    assert '(did you mean "stable"?)' in unknown.messages


def test_weights_are_relative_and_a_lone_destination_takes_all() -> None:
    several = "- route:\n  - {destination: {host: orders}, weight: 3}\n  - {destination: {host: orders}}"
    assert [each.weight for each in destinations(compiled(service(several), ORDERS))] == [3, 0]
    lone = "- route: [{destination: {host: orders}, weight: 0}]"
    assert [each.weight for each in destinations(compiled(service(lone), ORDERS))] == [1]


def test_in_the_mesh_the_first_has_the_host() -> None:
    done = compiled(
        service(TO_ORDERS, "[a.example.com, b.example.com]", "[edge, mesh]", name="second"),
        service(TO_ORDERS, "[b.example.com, c.example.com]", "[edge, mesh]", name="third"),
        service(TO_ORDERS, "[b.example.com]", name="fourth"),
        ORDERS,
        EDGE,
    )
    assert done.found == ["14:11 error IST0109", "23:11 error IST0109"]
    assert "VirtualService/shop/second" in done.messages
    assert [(table.name, table.gateways, table.hosts) for table in done.mesh.routes] == [
        ("second", ("shop/edge", "mesh"), ("a.example.com", "b.example.com")),
        ("third", ("shop/edge",), ("b.example.com", "c.example.com")),
        ("third", ("mesh",), ("c.example.com",)),
    ]


def test_on_a_gateway_virtual_services_share_a_host() -> None:
    done = compiled(
        service(TO_ORDERS, "[a.example.com]", "[edge]", name="one"),
        service(TO_ORDERS, "[a.example.com]", "[edge]", name="two"),
        ORDERS,
        EDGE,
    )
    assert done.found == []
    assert len(done.mesh.routes) == 2


def test_only_tcp_routes_make_no_table() -> None:
    spec = "hosts: [orders]\ntcp: [{route: [{destination: {host: orders}}]}]"
    done = compiled(networking("VirtualService", spec), ORDERS)
    assert done.found == []
    assert not done.mesh.routes


def hidden(*matches: str) -> list[str]:
    routes = "\n".join(f"- match: [{match}]\n  route: [{{destination: {{host: orders}}}}]" for match in matches)
    return compiled(service(routes), ORDERS).found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{uri: {prefix: /api}}", "{uri: {prefix: /api/v1}}"),
        ("{uri: {prefix: /api}}", "{uri: {exact: /api}, method: {exact: GET}}"),
        ("{headers: {a: {exact: b}}}", "{headers: {a: {exact: b}, c: {exact: d}}, uri: {regex: x}}"),
        ("{uri: {regex: x}}", "{uri: {regex: x}}"),
        ("{}", "{port: 80}"),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", "{uri: {exact: /a}}"),
    ],
)
def test_a_route_that_nothing_reaches(first: str, second: str) -> None:
    assert hidden(first, second) == ["10:5 warning IST0130"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{uri: {prefix: /api/v1}}", "{uri: {prefix: /api}}"),
        ("{uri: {exact: /api}}", "{uri: {exact: /api/v1}}"),
        ("{uri: {prefix: /api}, method: {exact: GET}}", "{uri: {prefix: /api}}"),
        ("{headers: {a: {exact: b}}}", "{headers: {a: {exact: c}}}"),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a}, ignoreUriCase: true}"),
        ("{uri: {regex: x}}", "{uri: {regex: y}}"),
        ("{sourceLabels: {app: a}}", "{uri: {prefix: /}}"),
        ("{queryParams: {a: {exact: b}}}", "{withoutHeaders: {a: {}}}"),
    ],
)
def test_a_route_that_something_reaches(first: str, second: str) -> None:
    assert hidden(first, second) == []


def test_a_single_match_that_nothing_reaches() -> None:
    assert hidden("{uri: {prefix: /a}}", "{uri: {prefix: /b}}, {uri: {exact: /a/b}}") == ["10:34 info IST0131"]


def test_a_large_table_is_applied_quickly() -> None:
    """A thousand routes with prefixes of one another's length: quadratic work would take half a minute."""
    routes = "\n".join(
        f"- match: [{{uri: {{prefix: /api/v1/resource/{index:05}}}}}]\n  route: [{{destination: {{host: orders}}}}]"
        for index in range(1000)
    )
    done = compiled(service(routes), ORDERS)
    assert done.found == []
    assert len(only(done).routes) == 1000


CLAIMS = '- match: [{headers: {"@request.auth.claims.group": {exact: beta}}}]\n  route: [{destination: {host: orders}}]'


def test_a_table_that_asks_for_claims() -> None:
    assert only(compiled(service(CLAIMS), ORDERS)).asks_claims
    assert not only(compiled(service(TO_ORDERS), ORDERS)).asks_claims


def test_the_cors_policy_of_a_route_by_claims_is_never_used() -> None:
    policy = "\n  corsPolicy: {allowOrigins: [{exact: https://a.example}]}"
    assert compiled(service(CLAIMS + policy), ORDERS).found == ["10:17 warning ISM2153"]


def test_claims_tell_routes_apart() -> None:
    other = CLAIMS.replace("beta", "alpha")
    assert compiled(service(f"{CLAIMS}\n{other}\n{TO_ORDERS}"), ORDERS).found == []
    assert compiled(service(f"{CLAIMS}\n{CLAIMS}"), ORDERS).found == ["10:5 warning IST0130"]
