from __future__ import annotations

from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.model.l4_route import L4Match, L4Route, L4Table
from isthmus.model.route import Destination
from isthmus.xds.l4 import L4Caller, Way, build_chains, distinct, mesh_table, service_ways, tcp_ways, tls_ways
from isthmus.xds.observe import Observed

from .making import compiled, networking, origin, service

CALLER = L4Caller("mesh", "shop", {"app": "web"}, 5432)
EDGE = L4Caller("shop/edge", "shop", {"app": "edge"}, 5432)
A, B = (Destination(name, 1) for name in "ab")


def table(*matches: L4Match, gateways: tuple[str, ...] = ("mesh",), tls: bool = False) -> L4Table:
    """A route for each match, to a destination of its number; without matches one that takes everything."""
    routes = tuple(
        L4Route(str(index), (match,), (Destination(str(index), 1),), origin()) for index, match in enumerate(matches)
    ) or (L4Route("all", (), (A,), origin()),)
    return L4Table("t", "shop", ("*",), gateways, () if tls else routes, routes if tls else (), origin())


def names(ways: Any) -> list[str]:
    return [way.name for way in ways]


@pytest.mark.parametrize(
    ("match", "caller", "holds"),
    [
        (L4Match(), CALLER, True),
        (L4Match(port=5432), CALLER, True),
        (L4Match(port=5433), CALLER, False),
        (L4Match(gateways=("shop/edge",)), CALLER, False),
        (L4Match(gateways=("shop/edge", "mesh")), CALLER, True),
        (L4Match(source_labels=(("app", "web"),)), CALLER, True),
        (L4Match(source_labels=(("app", "other"),)), CALLER, False),
        (L4Match(source_namespace="shop"), CALLER, True),
        (L4Match(source_namespace="bank"), CALLER, False),
        (L4Match(destination_subnets=("10.0.0.0/8",)), CALLER, False),
        (L4Match(gateways=("shop/edge",)), EDGE, True),
        # Who calls a gateway is nobody of the mesh.
        (L4Match(gateways=("shop/edge",), source_labels=(("app", "other"),)), EDGE, True),
        (L4Match(gateways=("shop/edge",), destination_subnets=("10.0.0.0/8",)), EDGE, True),
    ],
)
def test_what_is_known_beforehand(match: L4Match, caller: L4Caller, holds: bool) -> None:
    assert names(tcp_ways((table(match),), caller)) == (["0"] if holds else [])


def test_the_first_that_takes_everything_is_the_last() -> None:
    subnet = L4Match(gateways=("shop/edge",), destination_subnets=("10.0.0.0/8",))
    found = tcp_ways((table(subnet, L4Match(), L4Match(), gateways=("shop/edge",)), table()), EDGE)
    assert names(found) == ["0", "1"]


def test_server_names_are_narrowed_to_the_hosts() -> None:
    matches = (L4Match(server_names=("a.b", "*.c")), L4Match(server_names=("*.x.c",)), L4Match(server_names=("d.e",)))
    found = list(tls_ways((table(*matches, tls=True),), CALLER, ("a.b", "y.c", "*.x.c")))
    assert [way.server_names for way in found] == [("a.b", "y.c", "*.x.c"), ("*.x.c",)]


def test_no_two_ways_take_the_same() -> None:
    ways = (
        Way("one", ("a", "b"), (), (A,)),
        Way("two", ("b", "c"), (), (B,)),
        Way("three", ("c",), (), (A,)),
        Way("four", ("c",), ("10.0.0.0/8",), (A,)),
        Way("rest", (), (), (B,)),
        Way("again", (), (), (A,)),
    )
    assert [(way.name, way.server_names, way.subnets) for way in distinct(ways)] == [
        ("one", ("a", "b"), ()),
        ("two", ("c",), ()),
        ("four", ("c",), ("10.0.0.0/8",)),
        ("rest", (), ()),
    ]


def test_chains() -> None:
    half = (Destination("a", 1, weight=3), Destination("b", 1, weight=1), Destination("c", 1, weight=0))
    ways = (Way("named", ("a.b",), (), half), Way("any", ("*",), (), (A,)), Way("rest", (), ("10.0.0.0/8",), (B,)))
    first, second, third = build_chains(ways, lambda destination: f"to-{destination.host}", "prefix", Observed(()))
    proxy: Any = unpack(first.filters[0].typed_config)
    shares = proxy.weighted_clusters.clusters
    assert [(share.name, share.weight) for share in shares] == [("to-a", 3), ("to-b", 1)], "none of nothing"
    assert (first.server_names, first.transport_protocol) == (("a.b",), "tls")
    assert (second.server_names, second.transport_protocol) == ((), "tls")
    assert (third.server_names, third.transport_protocol, third.subnets) == ((), "", ("10.0.0.0/8",))
    assert len({chain.name for chain in (first, second, third)}) == 3
    single: Any = unpack(third.filters[0].typed_config)
    assert single.cluster == "to-b"


ROUTE = "route: [{destination: {host: store, port: {number: 1}}}]"


def test_the_most_specific_host_decides() -> None:
    wide = networking("VirtualService", "wide", f"hosts: ['*.shop.svc.cluster.local']\ntcp: [{{{ROUTE}}}]")
    exact = networking("VirtualService", "exact", f"hosts: [store]\ntcp: [{{{ROUTE}}}]")
    mesh = compiled(service("store", "{name: tcp, port: 1}"), wide, exact).mesh
    found = [mesh_table(mesh, host) for host in ("store.shop.svc.cluster.local", "x.shop.svc.cluster.local", "a.b")]
    assert [one.name if one else None for one in found] == ["exact", "wide", None]


def test_without_routes_it_goes_straight() -> None:
    mesh = compiled(service("store", "{name: tcp, port: 1}")).mesh
    store = mesh.services["store.shop.svc.cluster.local"]
    (way,) = service_ways(mesh, store, store.ports[0], "shop", {})
    assert way.destinations == (Destination(store.host, 1),)
