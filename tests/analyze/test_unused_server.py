from __future__ import annotations

from isthmus.analyze.unused_server import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, ROUTES, found

SAID = (
    "7 info ISM5005: no VirtualService has routes for shop.example.com at this gateway: "
    "port 80 answers 404 to everything"
)


def test_no_routes() -> None:
    assert found(CHECK, GATEWAY) == [SAID]


def test_routes_of_another_host_or_gateway_do_not_count() -> None:
    assert found(CHECK, GATEWAY, ROUTES.replace("shop.example.com", "api.example.com"), ORDERS) == [SAID]
    assert found(CHECK, GATEWAY, ROUTES.replace("  gateways: [edge/edge]\n", ""), ORDERS) == [SAID]


def test_routes_of_a_namespace_that_the_server_does_not_take() -> None:
    closed = GATEWAY.replace("[shop.example.com]", "[./shop.example.com]")
    assert found(CHECK, closed, ROUTES, ORDERS) == [SAID]


def test_a_server_of_connections_needs_routes_of_connections() -> None:
    tcp = GATEWAY.replace("protocol: HTTP", "protocol: TCP")
    closes = SAID.replace("answers 404 to everything", "closes every connection")
    assert found(CHECK, tcp, ROUTES, ORDERS) == [closes]
    assert found(CHECK, tcp, ROUTES.replace("  http:", "  tcp:"), ORDERS) == []


def test_bound_or_redirecting_servers_are_good() -> None:
    assert found(CHECK, GATEWAY, ROUTES, ORDERS) == []
    assert found(CHECK, GATEWAY.replace("[shop.example.com]", "['*.example.com']"), ROUTES, ORDERS) == []
    assert found(CHECK, GATEWAY + "      tls: {httpsRedirect: true}\n") == []
