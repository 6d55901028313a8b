"""Names are a contract: dashboards, access logs and refusals speak of them."""

from __future__ import annotations

from isthmus.xds.name import (
    gateway_listener,
    inbound_cluster,
    inbound_listener,
    outbound_cluster,
    server_routes,
    upstream_listener,
)


def test_names() -> None:
    assert outbound_cluster("orders.shop", 80) == "outbound|80||orders.shop"
    assert outbound_cluster("orders.shop", 80, "v1") == "outbound|80|v1|orders.shop"
    assert inbound_cluster(8080) == "inbound|8080||"
    assert inbound_listener(8080) == "inbound_8080"
    assert gateway_listener(443) == "gateway_443"
    assert server_routes("edge", "shop", 443, "https", tls=True) == "https.443.https.edge.shop"


def test_plaintext_servers_of_one_port_share_their_routes() -> None:
    assert server_routes("edge", "shop", 80, "http", tls=False) == server_routes("other", "x", 80, "web", tls=False)


def test_an_upstream_is_told_by_its_number() -> None:
    assert upstream_listener(1, "orders.shop", 80) == "upstream_1_orders.shop_80"
    assert upstream_listener(1, "orders.shop", 80).startswith(upstream_listener(1))
    assert not upstream_listener(10, "orders.shop", 80).startswith(upstream_listener(1))
