from __future__ import annotations

from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.xds.snapshot import CLUSTER, LISTENER
from isthmus.xds.tunnel import named_by_routes

from .making import Given, compiled, entry, given_by, networking, service

WEB = "sidecar~shop~web-1"
HERE = entry("web-1")
STORE = service("store", "{name: tcp, port: 6379}")
OTHER = service("other", "{name: tcp, port: 6379}")
INNER = "connect|6379||store.shop.svc.cluster.local"


def routes(spec: str, hosts: str = "[store]", name: str = "store") -> str:
    return networking("VirtualService", name, f"hosts: {hosts}\n{spec}")


def tunnel(found: Given, host: str) -> str:
    route = found.virtual_hosts("outbound")[host].routes[0]
    assert route.match.HasField("connect_matcher")
    return str(route.route.cluster)


def targets(found: Given, listener: str) -> list[tuple[list[str], str]]:
    """The server names and the cluster of each chain."""
    chains = []
    for chain in found.listener(listener).filter_chains:
        proxy: Any = unpack(chain.filters[-1].typed_config)
        chains.append((list(chain.filter_chain_match.server_names), proxy.cluster or "several"))
    return chains


def test_one_way_needs_no_listener_within() -> None:
    found = given_by(WEB, HERE, STORE, OTHER, routes("tcp: [{route: [{destination: {host: other}}]}]"))
    assert tunnel(found, "store.shop.svc.cluster.local:6379") == "outbound|6379||other.shop.svc.cluster.local"
    assert [name for name in found.names(LISTENER) if name.startswith("connect")] == ["connect"]


def test_several_are_chosen_from_within() -> None:
    shares = "[{destination: {host: other}, weight: 1}, {destination: {host: store}, weight: 1}]"
    found = given_by(WEB, HERE, STORE, OTHER, routes(f"tcp: [{{route: {shares}}}]"))
    assert tunnel(found, "store.shop.svc.cluster.local:6379") == INNER
    assert INNER in found.names(CLUSTER)
    assert targets(found, INNER) == [([], "several")]


def test_server_names_choose_at_a_port_of_tls() -> None:
    tls = service("store", "{name: tls, port: 6379}")
    match = "match: [{sniHosts: [store]}], route: [{destination: {host: other}}]"
    found = given_by(WEB, HERE, tls, OTHER, routes(f"tls: [{{{match}}}]"))
    assert targets(found, INNER) == [
        (["store"], "outbound|6379||other.shop.svc.cluster.local"),
        ([], "outbound|6379||store.shop.svc.cluster.local"),
    ]


def test_resolution_none_is_reached_by_its_name() -> None:
    spec = "hosts: [db.example.com]\nports: [{number: 5432, name: tcp, protocol: TCP}]"
    found = given_by(WEB, HERE, networking("ServiceEntry", "db", spec))
    assert tunnel(found, "db.example.com:5432") == "PassthroughCluster"


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ("tls: [{match: [{sniHosts: [a.internal]}], ROUTE}]", [443]),
        ("tls: [{match: [{sniHosts: [a.internal], port: 8443}], ROUTE}]", [8443]),
        ("tcp: [{match: [{port: 2}, {port: 1}], ROUTE}]", [1, 2]),
        ("tcp: [{ROUTE}]", []),
    ],
)
def test_hosts_that_only_routes_know(spec: str, ports: list[int]) -> None:
    text = routes(spec.replace("ROUTE", "route: [{destination: {host: store}}]"), "[a.internal]")
    assert [(one.host, one.port) for one in named_by_routes(compiled(STORE, text).mesh)] == [
        ("a.internal", port) for port in ports
    ]
    found = given_by(WEB, HERE, STORE, text)
    for port in ports:
        inner = tunnel(found, f"a.internal:{port}")
        assert [cluster for _, cluster in targets(found, inner)] == ["outbound|6379||store.shop.svc.cluster.local"]
