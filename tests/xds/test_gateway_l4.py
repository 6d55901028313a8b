from __future__ import annotations

from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import tls_v3
from isthmus.xds.snapshot import LISTENER, ROUTE

from .making import Given, given_by, networking, security, service
from .test_gateway import EDGE, edge, http, https

DB = service("db", "{name: tcp, port: 5432}")
TO_DB = "outbound|5432||db.shop.svc.cluster.local"
NOWHERE = "BlackHoleCluster"
ROUTE_TO_DB = "route: [{destination: {host: db}}]"


def server(protocol: str, hosts: str, tls: str = "", port: int = 443, name: str = "db") -> str:
    more = f", tls: {tls}" if tls else ""
    return f"{{port: {{number: {port}, name: {name}, protocol: {protocol}}}, hosts: {hosts}{more}}}"


def routes(spec: str, hosts: str = "['*.example.com']", name: str = "db", namespace: str = "shop") -> str:
    return networking("VirtualService", name, f"hosts: {hosts}\ngateways: [shop/edge]\n{spec}", namespace)


def chains(found: Given, port: int = 443) -> list[tuple[list[str], str]]:
    """The server names of each chain, and its cluster (``http`` for requests)."""
    result = []
    for chain in found.listener(f"gateway_{port}").filter_chains:
        last: Any = unpack(chain.filters[-1].typed_config)
        cluster = last.cluster if last.DESCRIPTOR.name == "TcpProxy" else "http"
        result.append((list(chain.filter_chain_match.server_names), cluster))
    return result


PASSED = "{mode: PASSTHROUGH}"


def test_plain_connections() -> None:
    found = given_by(EDGE, DB, edge(server("TCP", "['*']", port=5432)), routes(f"tcp: [{{{ROUTE_TO_DB}}}]"))
    assert chains(found, 5432) == [([], TO_DB)]
    listener = found.listener("gateway_5432")
    assert not listener.listener_filters, "a client of a server that speaks first says nothing that could be looked at"
    assert not found.names(ROUTE)


def test_a_server_without_routes_closes() -> None:
    assert chains(given_by(EDGE, edge(server("TCP", "['*']", port=5432))), 5432) == [([], NOWHERE)]


def test_names_without_routes_are_taken_and_closed() -> None:
    """Else the wildcard's server of HTTP would answer for them."""
    gateway = edge(server("TLS", "[a.example.com, b.example.com]", PASSED), https("['*.example.com']"))
    match = "match: [{sniHosts: [a.example.com]}]"
    found = given_by(EDGE, DB, gateway, routes(f"tls: [{{{match}, {ROUTE_TO_DB}}}]"))
    assert chains(found) == [
        (["*.example.com"], "http"),
        (["a.example.com"], TO_DB),
        (["b.example.com"], NOWHERE),
    ]


def test_names_of_servers_of_http_are_theirs() -> None:
    """A route for a name within a wildcard that is passed through does not take it from its own server."""
    gateway = edge(server("TLS", "['*.example.com']", PASSED), https("[a.example.com]"))
    match = "match: [{sniHosts: [a.example.com, b.example.com]}]"
    found = given_by(EDGE, DB, gateway, routes(f"tls: [{{{match}, {ROUTE_TO_DB}}}]"))
    assert chains(found) == [
        (["a.example.com"], "http"),
        (["b.example.com"], TO_DB),
        (["*.example.com"], NOWHERE),
    ]


def test_a_host_that_is_passed_through_is_not_answered_over_a_wildcards_connection() -> None:
    gateway = edge(https("['*.example.com']"), server("TLS", "[a.example.com]", PASSED))
    found = given_by(EDGE, DB, gateway)
    (host,) = (
        one for one in found.virtual_hosts("https.443.https.edge.shop").values() if "a.example.com" in one.domains
    )
    assert host.routes[0].direct_response.status == 421


def test_tls_that_ends_here_offers_no_http() -> None:
    gateway = edge(server("TLS", "[a.example.com]", "{mode: SIMPLE, credentialName: cert}"))
    found = given_by(EDGE, DB, gateway, routes(f"tcp: [{{{ROUTE_TO_DB}}}]"))
    assert chains(found) == [(["a.example.com"], TO_DB)]
    (chain,) = found.listener("gateway_443").filter_chains
    context: Any = unpack(chain.transport_socket.typed_config)
    assert isinstance(context, tls_v3.DownstreamTlsContext)
    assert not context.common_tls_context.alpn_protocols
    assert chain.filters[0].name == "envoy.filters.network.set_filter_state", "the client's identity is kept"


def test_unknown_names_are_logged() -> None:
    for one in (https("[a.example.com]"), server("TLS", "[a.example.com]", PASSED)):
        log, *_ = given_by(EDGE, edge(one)).listener("gateway_443").access_log
        assert list(log.filter.response_flag_filter.flags) == ["NR"]
    assert not given_by(EDGE, edge(http("['*']"))).listener("gateway_80").access_log


def test_policies_stand_before() -> None:
    policy = security("AuthorizationPolicy", "p", "action: DENY\nrules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]")
    found = given_by(EDGE, DB, edge(server("TCP", "['*']", port=5432)), routes(f"tcp: [{{{ROUTE_TO_DB}}}]"), policy)
    (chain,) = found.listener("gateway_5432").filter_chains
    assert [one.name for one in chain.filters] == ["envoy.filters.network.rbac", "envoy.filters.network.tcp_proxy"]


@pytest.mark.parametrize(("host", "bound"), [("other/*", False), ("shop/*", True), ("./*", True), ("*/*", True)])
def test_a_server_names_whose_routes_it_takes(host: str, bound: bool) -> None:
    found = given_by(EDGE, DB, edge(server("TCP", f"['{host}']", port=5432)), routes(f"tcp: [{{{ROUTE_TO_DB}}}]"))
    assert chains(found, 5432) == [([], TO_DB if bound else NOWHERE)]


def test_one_use_of_a_port_survives() -> None:
    """The kinds tell of the others."""
    gateway = edge(server("TCP", "['*']", port=80), http("['*']"))
    found = given_by(EDGE, DB, gateway, routes(f"tcp: [{{{ROUTE_TO_DB}}}]"))
    assert found.names(LISTENER) == ["gateway_80"]
    assert chains(found, 80) == [([], TO_DB)]


@pytest.mark.parametrize(("mode", "seconds"), [("ISTIO_MUTUAL", 900), ("SIMPLE, credentialName: cert", 0)])
def test_connections_of_known_clients_end(mode: str, seconds: int) -> None:
    gateway = edge(server("TLS", "[a.example.com]", f"{{mode: {mode}}}"))
    (chain,) = given_by(EDGE, DB, gateway, routes(f"tcp: [{{{ROUTE_TO_DB}}}]")).listener("gateway_443").filter_chains
    proxy: Any = unpack(chain.filters[-1].typed_config)
    assert proxy.max_downstream_connection_duration.seconds == seconds


def closing(*targets: str) -> str:
    refs = ", ".join(targets)
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: it, namespace: shop}\nspec:\n"
    return f"{head}  targetRefs: [{refs}]\n  rules: [{{methods: [GET]}}]\n"


def refusing(found: Given, port: int) -> list[bool]:
    """Of each chain, whether a filter refuses every connection and says why."""
    chains = found.listener(f"gateway_{port}").filter_chains
    return [
        any(b"isthmus-access-policy-on-TCP" in one.typed_config.value for one in chain.filters[:-1]) for chain in chains
    ]


def test_what_a_policy_closes_nobody_else_answers() -> None:
    gateway = edge(server("TLS", "['*.example.com']", PASSED))
    http_too = "http: [{route: [{destination: {host: db}}]}]"
    narrow = routes(f"tls: [{{match: [{{sniHosts: [a.example.com]}}], {ROUTE_TO_DB}}}]\n{http_too}", name="narrow")
    wide = routes(f"tls: [{{match: [{{sniHosts: ['*.example.com']}}], {ROUTE_TO_DB}}}]", name="wide")
    found = given_by(EDGE, DB, gateway, narrow, wide, closing("{kind: VirtualService, name: narrow}"))
    assert chains(found) == [(["a.example.com"], NOWHERE), (["*.example.com"], TO_DB)]
    assert refusing(found, 443) == [False, False]


def test_where_all_is_closed_it_is_said_why() -> None:
    gateway = edge(server("TCP", "['*']", port=5432), http("['*']", name="web"))
    given = (DB, gateway, routes(f"tcp: [{{{ROUTE_TO_DB}}}]", "['*']"))
    everything = closing().replace("targetRefs: []", "selector: {}")
    for policies, expected, said in (
        ((closing("{kind: Gateway, name: edge}"),), NOWHERE, False),
        ((closing("{kind: Gateway, name: edge, sectionName: web}"),), TO_DB, False),
        ((everything,), TO_DB, True),
        ((everything, closing("{kind: Gateway, name: edge}").replace("name: it", "name: named")), TO_DB, True),
    ):
        found = given_by(EDGE, *given, *policies)
        assert (chains(found, 5432), refusing(found, 5432)) == ([([], expected)], [said])


def test_a_virtual_service_that_takes_everything_comes_before_another_ones_networks() -> None:
    match = "match: [{destinationSubnets: [10.0.0.0/8]}]"
    everything, network = (
        routes(f"tcp: [{{{ROUTE_TO_DB}}}]", "['*']"),
        routes(f"tcp: [{{{match}, {ROUTE_TO_DB}}}]", "['*']", name="network"),
    )
    given = (DB, edge(server("TCP", "['*']", port=5432)))
    assert chains(given_by(EDGE, *given, everything, network), 5432) == [([], TO_DB)]
    assert len(chains(given_by(EDGE, *given, network, everything), 5432)) == 3, "10.0.0.0/8, and all by two prefixes"
