from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.model.world import Address, PortKey, World
from isthmus.xds.isolated import by_relay, outside
from isthmus.xds.name import PASSTHROUGH
from isthmus.xds.relay import relay_socket
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, ROUTE, Snapshot, message
from isthmus.xds.translate import translate
from tests.xds.making import compiled, entry, mesh_config, networking, service

SOCKETS = "/run/isthmus-1"
SIDECAR = "sidecar~shop~visitor-1"
APP = "/run/isthmus-1/orders.in"
OUTSIDE = networking(
    "ServiceEntry",
    "outside",
    """
    hosts: [api.example.com]
    location: MESH_EXTERNAL
    resolution: DNS
    ports: [{number: 443, name: tls, protocol: TLS}]
    """,
)


@pytest.fixture(scope="module")
def mesh() -> Any:
    return compiled(
        service("orders"), entry("orders-1"), entry("visitor-1"), service("stock"), entry("stock-1"), OUTSIDE
    )


def world_of(mesh: Any, *isolated: str) -> World:
    """Orders is isolated and listens on a Unix socket, stock in the machine's network."""
    found = offline_world(mesh.mesh)
    addresses = {**found.addresses, PortKey("sidecar~shop~orders-1", "inbound", 8080): Address.unix(APP)}
    return replace(found, addresses=addresses, isolated=frozenset(isolated), sockets=SOCKETS)


def given(mesh: Any, *isolated: str) -> Snapshot:
    return translate(mesh.mesh, world_of(mesh, *isolated), mesh.mesh.proxies_by_id[SIDECAR])


def endpoints(assignment: Any) -> list[str]:
    found = [one.endpoint for locality in assignment.endpoints for one in locality.lb_endpoints]
    return [one.address.pipe.path or f"{one.address.socket_address.address}" for one in found]


def of(snapshot: Snapshot, type_url: str, name: str) -> Any:
    return message(snapshot.of(type_url)[name])


STOCK, ORDERS = "outbound|8080||stock.shop.svc.cluster.local", "outbound|8080||orders.shop.svc.cluster.local"


def test_what_is_outside_is_dialled_by_the_relay(mesh: Any) -> None:
    snapshot, world = given(mesh, SIDECAR), world_of(mesh)
    stock = world.address("sidecar~shop~stock-1", "inbound", 8080)
    assert endpoints(of(snapshot, ENDPOINT, STOCK)) == [relay_socket(SOCKETS, stock)]
    external = of(snapshot, CLUSTER, "outbound|443||api.example.com")
    assert endpoints(external.load_assignment) == [relay_socket(SOCKETS, Address("api.example.com", 443))]
    assert external.type == external.STATIC
    assert external.load_assignment.endpoints[0].lb_endpoints[0].endpoint.hostname == "api.example.com"


def test_a_unix_socket_is_dialled_as_it_is_and_the_program_itself_stays_near(mesh: Any) -> None:
    snapshot = given(mesh, SIDECAR)
    assert endpoints(of(snapshot, ENDPOINT, ORDERS)) == [APP]
    inbound = [name for name in snapshot.of(CLUSTER) if name.startswith("inbound|")]
    for name in inbound:
        assert endpoints(of(snapshot, CLUSTER, name).load_assignment) == ["127.0.0.1"]


def test_anywhere_is_the_relays_to_find_and_a_tunnel_is_the_relays_to_end(mesh: Any) -> None:
    snapshot = given(mesh, SIDECAR)
    anywhere = of(snapshot, CLUSTER, PASSTHROUGH)
    assert endpoints(anywhere.load_assignment) == [relay_socket(SOCKETS, None)]
    assert not anywhere.HasField("cluster_type")
    tunnels = [
        upgrade
        for host in of(snapshot, ROUTE, "outbound").virtual_hosts
        for route in host.routes
        for upgrade in route.route.upgrade_configs
        if route.route.cluster == PASSTHROUGH
    ]
    assert tunnels
    assert not any(upgrade.HasField("connect_config") for upgrade in tunnels)


def test_a_sidecar_in_the_machines_network_has_none_of_it(mesh: Any) -> None:
    for isolated in ((), ("sidecar~shop~orders-1",)):
        snapshot = given(mesh, *isolated)
        assert endpoints(of(snapshot, ENDPOINT, STOCK)) == ["127.0.0.1"]
        assert of(snapshot, CLUSTER, PASSTHROUGH).HasField("cluster_type")
        assert endpoints(of(snapshot, ENDPOINT, ORDERS)) == [APP], "callers of an isolated one dial its socket"


def test_the_relay_is_told_every_address_that_is_dialled_by_it(mesh: Any) -> None:
    assert outside(mesh.mesh, world_of(mesh)) == frozenset()
    targets = outside(mesh.mesh, world_of(mesh, SIDECAR))
    stock = world_of(mesh).address("sidecar~shop~stock-1", "inbound", 8080)
    assert targets == {stock, Address("api.example.com", 443)}
    sockets = {relay_socket(SOCKETS, to) for to in (*targets, None)}
    snapshot = given(mesh, SIDECAR)
    clusters = [message(built) for built in snapshot.of(CLUSTER).values()]
    dialled = {path for one in clusters for path in endpoints(one.load_assignment)}  # type: ignore[attr-defined]
    dialled |= {path for built in snapshot.of(ENDPOINT).values() for path in endpoints(message(built))}
    assert {path for path in dialled if path.endswith(".out")} <= sockets


def test_registry_only_has_no_way_to_anywhere() -> None:
    strict = compiled(
        service("visitor"), entry("visitor-1"), mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    )
    assert PASSTHROUGH not in given(strict, SIDECAR).of(CLUSTER)


def test_what_needs_no_change_stays_as_it_is(mesh: Any) -> None:
    black_hole = given(mesh).of(CLUSTER)["BlackHoleCluster"]
    assert by_relay(black_hole, SOCKETS) == black_hole
