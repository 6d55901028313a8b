from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.xds.outbound import basic_authorization
from isthmus.xds.snapshot import LISTENER, ROUTE

from .making import Given, compiled, entry, gateway, given, given_by, hcm_of, mesh_config, networking, service

WEB = "sidecar~shop~web-1"
HERE = entry("web-1")
CLOSED = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")


def domains(found: Given, name: str) -> list[str]:
    return list(found.virtual_hosts("outbound")[name].domains)


def clusters(found: Given, name: str) -> list[str]:
    """Where requests go."""
    routes = found.virtual_hosts("outbound")[name].routes
    return [route.route.cluster for route in routes if not route.match.HasField("connect_matcher")]


def tunnels(found: Given, name: str) -> list[str]:
    """Where what a CONNECT carries goes."""
    routes = found.virtual_hosts("outbound")[name].routes
    return [route.route.cluster for route in routes if route.match.HasField("connect_matcher")]


def local(spec: str) -> str:
    return networking("LocalWorkload", "web-1", spec).replace("networking.istio.io/v1", "isthmus.dev/v1alpha1")


def to(hosts: str, destination: str, name: str = "routes", more: str = "") -> str:
    return networking(
        "VirtualService", name, f"{{hosts: {hosts}{more}, http: [{{route: [{{destination: {destination}}}]}}]}}"
    )


def test_a_service_of_its_own_namespace_has_its_short_name() -> None:
    found = given_by(WEB, HERE, service("orders"), service("users", namespace="other"))
    assert domains(found, "orders.shop.svc.cluster.local:8080") == [
        "orders.shop.svc.cluster.local:8080",
        "orders.shop:8080",
        "orders.shop.svc:8080",
        "orders:8080",
    ]
    assert "users:8080" not in domains(found, "users.other.svc.cluster.local:8080")


def test_port_80_needs_no_port() -> None:
    found = given_by(WEB, HERE, service("orders", "{name: http, port: 80}"))
    names = domains(found, "orders.shop.svc.cluster.local:80")
    assert {"orders", "orders:80", "orders.shop.svc.cluster.local"} < set(names)


def test_a_service_without_workloads_has_its_short_name_too() -> None:
    text = service("orders").replace("selector: {app: orders}, ", "")
    assert "orders:8080" in domains(given_by(WEB, HERE, text), "orders.shop.svc.cluster.local:8080")


def test_the_first_label_of_a_foreign_host_is_no_name_for_it() -> None:
    entry_ = networking(
        "ServiceEntry",
        "cart",
        "hosts: [cart.example.com]\nlocation: MESH_INTERNAL\nresolution: STATIC\n"
        "workloadSelector: {labels: {app: cart}}\nports: [{number: 80, name: http, protocol: HTTP}]",
    )
    assert domains(given_by(WEB, HERE, entry_), "cart.example.com:80") == ["cart.example.com:80", "cart.example.com"]


def test_a_tcp_port_takes_tunnels_only() -> None:
    """A plain request to its name is one to whatever has that name outside."""
    texts = HERE, service("store", "{name: tcp, port: 6379}")
    found = given_by(WEB, *texts)
    assert domains(found, "store.shop.svc.cluster.local:6379")[0] == "store.shop.svc.cluster.local:6379"
    assert clusters(found, "store.shop.svc.cluster.local:6379") == ["PassthroughCluster"]
    assert tunnels(found, "store.shop.svc.cluster.local:6379") == ["outbound|6379||store.shop.svc.cluster.local"]
    _, refusal = given_by(WEB, CLOSED, *texts).virtual_hosts("outbound")["store.shop.svc.cluster.local:6379"].routes
    assert refusal.direct_response.status == 502


def test_a_tunnel_to_http_leads_to_the_listener_within() -> None:
    found = given_by(WEB, HERE, service("orders"), to("[api.internal]", "{host: orders}"))
    assert tunnels(found, "orders.shop.svc.cluster.local:8080") == ["connect"]
    assert tunnels(found, "api.internal") == ["connect"]
    (chain,) = found.listener("connect").filter_chains
    assert chain.filter_chain_match.transport_protocol == "raw_buffer", "TLS to a port of HTTP has no chain"
    hcm = hcm_of(chain)
    assert hcm.rds.route_config_name == "outbound"
    names = [one.name for one in hcm.http_filters]
    assert not any("proxy_authorization" in name for name in names), "who came so far has shown it"


def test_a_tunnel_to_what_is_no_service_is_passed_on_or_refused() -> None:
    open_, closed = given_by(WEB, HERE), given_by(WEB, HERE, CLOSED)
    assert tunnels(open_, "allow_any") == ["PassthroughCluster"]
    refusal = closed.virtual_hosts("outbound")["block_all"].routes[0]
    assert refusal.match.HasField("connect_matcher")
    assert refusal.direct_response.status == 502


def test_excluded_ports_are_open_where_nothing_else_is() -> None:
    annotations = 'annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "80,5432"}'
    here = local("{}").replace("namespace: shop}", f"namespace: shop, {annotations}}}")
    routes = given_by(WEB, here, CLOSED).virtual_hosts("outbound")["block_all"].routes
    excluded = [route for route in routes if route.name == "excluded_port"]
    assert [route.route.cluster for route in excluded] == ["PassthroughCluster"] * 4
    assert [route.match.HasField("connect_matcher") for route in excluded] == [True, False] * 2
    assert {route.match.headers[0].name for route in excluded} == {":authority"}
    assert [route.direct_response.status for route in routes[4:]] == [502, 502]


def test_addresses_of_a_service_are_names_of_it() -> None:
    spec = "hosts: [db.example.com]\nresolution: DNS\naddresses: [10.0.0.9, 'fd00::9']\n"
    found = given_by(
        WEB, HERE, networking("ServiceEntry", "db", f"{spec}ports: [{{number: 80, name: http, protocol: HTTP}}]")
    )
    assert domains(found, "db.example.com:80") == [
        *("db.example.com:80", "10.0.0.9:80", "[fd00::9]:80"),
        *("db.example.com", "10.0.0.9", "[fd00::9]"),
    ]


def test_what_is_no_service_is_refused_or_passed_on() -> None:
    open_, closed = given_by(WEB, HERE), given_by(WEB, HERE, CLOSED)
    assert clusters(open_, "allow_any") == ["PassthroughCluster"]
    _, refusal = closed.virtual_hosts("outbound")["block_all"].routes
    assert refusal.direct_response.status == 502
    assert "REGISTRY_ONLY" in refusal.direct_response.body.inline_string
    for found, resolves in ((open_, True), (closed, False)):
        hcm = hcm_of(found.listener("outbound").filter_chains[0])
        assert ("envoy.filters.http.dynamic_forward_proxy" in [one.name for one in hcm.http_filters]) is resolves


def test_a_virtual_service_decides_for_its_host() -> None:
    found = given_by(WEB, HERE, service("orders"), service("users"), to("[orders]", "{host: users}"))
    assert clusters(found, "orders.shop.svc.cluster.local:8080") == ["outbound|8080||users.shop.svc.cluster.local"]


def test_the_most_specific_host_decides() -> None:
    wide = to("['*.shop.svc.cluster.local']", "{host: users}", "wide")
    exact = to("[orders]", "{host: orders}", "exact")
    found = given_by(WEB, HERE, service("orders"), service("users"), service("cart"), wide, exact)
    assert clusters(found, "orders.shop.svc.cluster.local:8080") == ["outbound|8080||orders.shop.svc.cluster.local"]
    assert clusters(found, "cart.shop.svc.cluster.local:8080") == ["outbound|8080||users.shop.svc.cluster.local"]


@pytest.mark.parametrize(
    "destination", ["{host: nobody}", "{host: orders, subset: v9}", "{host: orders, port: {number: 81}}", "{host: two}"]
)
def test_what_cannot_be_resolved_answers_503(destination: str) -> None:
    """An unknown host, subset or port, or a service of two ports where none is named."""
    two = service("two", "{name: http-a, port: 80}, {name: http-b, port: 81}")
    found = given_by(WEB, HERE, service("orders"), two, to("[orders]", destination))
    assert clusters(found, "orders.shop.svc.cluster.local:8080") == ["BlackHoleCluster"]


def test_a_host_that_only_a_virtual_service_knows() -> None:
    found = given_by(WEB, HERE, service("orders"), to("[api.internal, '*.wild.internal']", "{host: orders}"))
    assert domains(found, "api.internal") == ["api.internal", "api.internal:*"]
    assert domains(found, "*.wild.internal") == ["*.wild.internal"]
    assert clusters(found, "api.internal") == ["outbound|8080||orders.shop.svc.cluster.local"]


def test_a_virtual_service_of_gateways_is_not_for_sidecars() -> None:
    found = given_by(
        WEB, HERE, gateway(), service("orders"), to("[api.internal]", "{host: orders}", more=", gateways: [edge]")
    )
    assert "api.internal" not in found.virtual_hosts("outbound")


def test_every_host_of_the_mesh_is_not_one_host() -> None:
    found = given_by(WEB, HERE, service("orders"), to("['*']", "{host: orders}"))
    assert [list(host.domains) for host in found.virtual_hosts("outbound").values()].count(["*"]) == 1


def test_no_domain_stands_twice() -> None:
    """Envoy would refuse all routes."""
    entry_ = networking(
        "ServiceEntry",
        "same",
        "hosts: [orders.shop]\nresolution: DNS\nports: [{number: 8080, name: http, protocol: HTTP}]",
    )
    found = given_by(WEB, HERE, service("orders"), entry_, to("[orders.shop, orders]", "{host: orders}"))
    every = [domain for host in found.virtual_hosts("outbound").values() for domain in host.domains]
    assert len(every) == len(set(every))


def test_without_a_credential_there_is_no_proxy() -> None:
    mesh = compiled(HERE).mesh
    world = replace(offline_world(mesh), outbound_credentials={})
    assert "outbound" in given(mesh, WEB).names(LISTENER)
    assert not {"outbound", "connect"} & set(given(mesh, WEB, world).names(LISTENER))
    assert given(mesh, WEB, world).names(ROUTE) == []


def test_the_credential_is_asked_for_and_goes_no_further() -> None:
    found = given_by(WEB, HERE)
    hcm = hcm_of(found.listener("outbound").filter_chains[0])
    assert [one.name for one in hcm.http_filters][:2] == [
        "isthmus.proxy_authorization",
        "isthmus.proxy_authorization.strip",
    ]
    assert hcm.HasField("local_reply_config")
    expected = basic_authorization("not-a-credential")
    assert base64.b64decode(expected.removeprefix("Basic ")) == b"w:not-a-credential"
    assert expected.encode() in hcm.http_filters[0].typed_config.value
    configuration: Any = given_by(WEB, HERE).snapshot.of(ROUTE)["outbound"].wire
    assert b"proxy-authorization" in configuration


def test_upstreams() -> None:
    spec = """\
        upstreams:
        - {host: orders, port: 8080}
        - {host: store, port: 6379, bind: "127.0.0.1:16379"}
        - {host: nobody, port: 1}
        - {host: orders, port: 9}
        """
    texts = (
        service("orders"),
        service("store", "{name: tcp, port: 6379}"),
        to("[orders]", "{host: users}"),
        service("users"),
    )
    found = given_by(WEB, local(spec), *texts)
    http, tcp = (name for name in found.names(LISTENER) if name.startswith("upstream"))
    assert (http, tcp) == (
        "upstream_0_orders.shop.svc.cluster.local_8080",
        "upstream_1_store.shop.svc.cluster.local_6379",
    )
    assert found.listener(tcp).address.socket_address.port_value == 16379
    (host,) = found.virtual_hosts(http).values()
    assert list(host.domains) == ["*"], "a program that knows no proxy names a local address"
    assert [one.route.cluster for one in host.routes] == ["outbound|8080||users.shop.svc.cluster.local"]
    assert [one.name for one in found.listener(tcp).filter_chains[0].filters] == ["envoy.filters.network.tcp_proxy"]
