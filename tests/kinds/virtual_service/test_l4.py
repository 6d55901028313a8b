from __future__ import annotations

import pytest
from traffic_manifest import EDGE, ORDERS, compiled, networking

from isthmus.model.l4_route import L4Match, L4Route
from isthmus.model.route import Destination

ROUTE = "route: [{destination: {host: orders}}]"
TO_ORDERS = (Destination("orders.shop.svc.cluster.local", 80),)


def text(routes: str, more: str = "", hosts: str = "[orders]", name: str = "web") -> str:
    return networking("VirtualService", f"hosts: {hosts}{more}\n{routes}", name)


def gateway(protocol: str, tls: str = "", port: int = 443) -> str:
    server = f"{{port: {{number: {port}, name: p, protocol: {protocol}}}, hosts: ['*.example.com']{tls}}}"
    return networking("Gateway", f"selector: {{app: edge}}\nservers: [{server}]", "edge")


def test_routes_of_the_mesh() -> None:
    match = "{port: 80, sourceLabels: {b: 2x, a: 1x}, sourceNamespace: bank}"
    done = compiled(
        text(f"tcp: [{{match: [{match}], {ROUTE}}}]\ntls: [{{match: [{{sniHosts: [orders]}}], {ROUTE}}}]"), ORDERS
    )
    assert done.found == []
    (table,) = done.mesh.l4_routes
    assert (table.hosts, table.gateways) == (("orders.shop.svc.cluster.local",), ("mesh",))
    (route,) = table.tcp
    wanted = L4Match(port=80, source_labels=(("a", "1x"), ("b", "2x")), source_namespace="bank")
    assert route == L4Route("shop/web/tcp[0]", (wanted,), TO_ORDERS, route.origin)
    assert str(route.origin.source) == "<stdin>:6:9"
    assert table.tls[0].matches == (L4Match(server_names=("orders",)),)


def test_weights_of_one_and_of_several() -> None:
    several = "[{destination: {host: orders}, weight: 3}, {destination: {host: orders}}]"
    done = compiled(text(f"tcp: [{{route: {several}}}, {{{ROUTE}}}]"), ORDERS)
    first, second = done.mesh.l4_routes[0].tcp
    assert [each.weight for each in first.destinations] == [3, 0]
    assert [each.weight for each in second.destinations] == [1]


def test_a_destination_needs_a_port_where_there_are_several() -> None:
    two = ORDERS.replace("targetPort: 8080}", "targetPort: 8080}, {name: tcp, port: 81}")
    assert compiled(text(f"tcp: [{{{ROUTE}}}]"), two).found == ["6:32 error IST0112"]


def test_gateways_and_mesh_are_kept_apart() -> None:
    """So that a host that another VirtualService has in the mesh is still this one's at the gateway."""
    first = text(f"tcp: [{{{ROUTE}}}]", name="first")
    both = text(f"tcp: [{{{ROUTE}}}]", ", gateways: [mesh, edge]".replace(", ", "\n", 1), name="both")
    edge = gateway("TCP").replace("'*.example.com'", "'*'")
    done = compiled(first, both, ORDERS, edge)
    assert [(table.name, table.gateways) for table in done.mesh.l4_routes] == [
        ("first", ("mesh",)),
        ("both", ("shop/edge",)),
    ]
    assert [one.partition(" ")[2] for one in done.found] == ["error IST0109"]


@pytest.mark.parametrize(
    ("where", "told"), [("", True), ("\ngateways: [mesh, edge]", True), ("\ngateways: [edge]", False)]
)
def test_subnets_match_at_gateways_only(where: str, told: bool) -> None:
    """ISM2161."""
    route = f"tcp: [{{match: [{{destinationSubnets: [10.0.0.0/8]}}], {ROUTE}}}]"
    edge = gateway("TCP").replace("'*.example.com'", "'*'")
    done = compiled(text(route, where), ORDERS, edge)
    assert [one.partition(" ")[2] for one in done.found] == (["warning ISM2161"] if told else [])


PASSTHROUGH = ", tls: {mode: PASSTHROUGH}"
TLS = f"tls: [{{match: [{{sniHosts: [a.example.com]}}], {ROUTE}}}]"
TCP = f"tcp: [{{{ROUTE}}}]"


@pytest.mark.parametrize(
    ("server", "routes", "taken"),
    [
        (gateway("TLS", PASSTHROUGH), TLS, True),
        (gateway("HTTPS", PASSTHROUGH), TLS, True),
        (gateway("TLS", PASSTHROUGH), TCP, False),
        (gateway("TCP"), TCP, True),
        (gateway("TCP"), TLS, False),
        (EDGE, TCP, False),
        (EDGE, TLS, False),
    ],
)
def test_routes_that_no_server_takes_are_told(server: str, routes: str, taken: bool) -> None:
    """ISM2162: tls routes where TLS ends, tcp routes where it is passed through, either before a server of HTTP."""
    done = compiled(text(routes, "\ngateways: [edge]", "[a.example.com]"), ORDERS, server)
    assert [one.partition(" ")[2] for one in done.found] == ([] if taken else ["warning ISM2162"])


def test_an_unknown_gateway_is_told_once() -> None:
    assert compiled(text(TCP, "\ngateways: [egde]"), ORDERS).found == ["6:14 error IST0101"]
