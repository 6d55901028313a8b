from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.control.offline import offline_world
from isthmus.envoy_api import unpack
from isthmus.model.world import Address, PortKey
from isthmus.xds.snapshot import LISTENER, ROUTE

from .making import Given, compiled, entry, given, networking, service

WEB = "sidecar~shop~web-1"
HERE = entry("web-1")
DB = networking(
    "ServiceEntry",
    "db",
    "{hosts: [db.example.com], addresses: [192.0.2.7], ports: [{number: 5432, name: tcp,"
    " protocol: TCP}], resolution: STATIC, endpoints: [{address: 192.0.2.9}]}",
)


def captured(*manifests: str) -> Given:
    """What a sidecar is given whose program's connections are redirected to it."""
    mesh = compiled(HERE, *manifests).mesh
    world = offline_world(mesh)
    here = {
        PortKey(WEB, "capture", 0): Address("127.0.0.1", 15002),
        PortKey(WEB, "dns", 0): Address("127.0.0.1", 15003),
    }
    return given(mesh, WEB, replace(world, addresses={**world.addresses, **here}))


def chains(found: Given) -> dict[tuple[int, tuple[str, ...]], Any]:
    """By the port, and the addresses, that were called."""
    return {
        (
            chain.filter_chain_match.destination_port.value,
            tuple(f"{one.address_prefix}/{one.prefix_len.value}" for one in chain.filter_chain_match.prefix_ranges),
        ): chain
        for chain in found.listener("capture").filter_chains
    }


def names(found: Given) -> dict[str, str]:
    config: Any = unpack(found.listener("capture_dns").listener_filters[0].typed_config)
    return {
        domain.name: domain.endpoint.address_list.address[0]
        for domain in config.server_config.inline_dns_table.virtual_domains
    }


def test_without_places_there_is_nothing() -> None:
    mesh = compiled(HERE, service("orders")).mesh
    assert "capture" not in given(mesh, WEB).names(LISTENER)


def test_every_name_of_a_service_has_its_address() -> None:
    found = names(captured(service("orders"), service("users", namespace="other")))
    own = {"orders", "orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local"}
    assert own <= found.keys()
    assert len({found[name] for name in own}) == 1
    assert "users" not in found
    assert found["users.other"] != found["orders"]


def test_each_port_of_an_address_has_its_chain() -> None:
    found = captured(service("orders", "{name: http, port: 8080}, {name: tcp-raw, port: 9000}"), DB)
    (orders,) = {names(found)["orders"]}
    listed = chains(found)
    assert listed.keys() == {
        (8080, (f"{orders}/32",)),
        (9000, (f"{orders}/32",)),
        (5432, ("192.0.2.7/32",)),
    }
    assert names(found)["db.example.com"] == "192.0.2.7"
    http = listed[8080, (f"{orders}/32",)]
    assert http.filter_chain_match.transport_protocol == "raw_buffer"
    assert http.filters[0].name == "envoy.filters.network.http_connection_manager"
    assert listed[9000, (f"{orders}/32",)].filters[-1].name == "envoy.filters.network.tcp_proxy"


def test_requests_on_such_a_connection_are_for_that_service_whatever_they_name() -> None:
    found = captured(service("orders"))
    (host,) = found.virtual_hosts("capture|8080||orders.shop.svc.cluster.local").values()
    assert list(host.domains) == ["*"]
    assert [route.route.cluster for route in host.routes] == ["outbound|8080||orders.shop.svc.cluster.local"]
    assert "capture|8080||orders.shop.svc.cluster.local" in found.names(ROUTE)


def test_two_that_declare_one_address_do_not_break_the_listener() -> None:
    found = captured(DB, DB.replace("name: db", "name: db2").replace("db.example.com", "db2.example.com"))
    assert [key for key in chains(found) if key[1] == ("192.0.2.7/32",)] == [(5432, ("192.0.2.7/32",))]


def test_connections_keep_the_address_that_was_called() -> None:
    first = captured(service("orders")).listener("capture").listener_filters[0]
    assert first.name == "envoy.filters.listener.original_dst"
