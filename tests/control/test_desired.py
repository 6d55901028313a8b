from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.control.desired import (
    control_plane_identity,
    credentials,
    expand,
    fixed_places,
    isolated_places,
    isolated_sidecars,
    jwks_sources,
    listening_places,
    make_plan,
    wants_isolation,
    wants_redirection,
    workload_environment,
)
from isthmus.control.offline import offline_world
from isthmus.model.mesh import Mesh
from isthmus.model.world import Address, PortKey
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import PlannedCredential, Redirection
from tests.kinds.credential import pair, secret
from tests.xds.making import compiled, entry, mesh_config, networking, security, service

from .making import NODE

EDGE = "gateway~shop~edge"
WEB = "sidecar~shop~web"


def local(spec: str, name: str = "web") -> str:
    return networking("LocalWorkload", name, spec).replace("networking.istio.io/v1", "isthmus.dev/v1alpha1")


def gateway(*servers: str) -> str:
    return networking("Gateway", "edge", "selector: {app: edge}\nservers:\n- " + "\n- ".join(servers))


def http(port: int, more: str = "") -> str:
    return f"{{port: {{number: {port}, name: http-{port}, protocol: HTTP}}, hosts: [shop.example.com]{more}}}"


def https(credential: str, hosts: str = "[shop.example.com]", mode: str = "SIMPLE", port: int = 443) -> str:
    return (
        f"{{port: {{number: {port}, name: https-{port}-{credential}, protocol: HTTPS}}, hosts: {hosts}, "
        f"tls: {{mode: {mode}, credentialName: {credential}}}}}"
    )


def places(*texts: str) -> dict[tuple[str, str, int], str]:
    return {(key.proxy, key.purpose, key.number): host for key, host in listening_places(compiled(*texts).mesh).items()}


def test_a_gateway_listens_where_its_servers_say() -> None:
    assert places(gateway(http(80), http(81, ", bind: 127.0.0.2"))) == {
        (EDGE, "gateway", 80): "127.0.0.1",
        (EDGE, "gateway", 81): "127.0.0.2",
    }


def test_a_workload_listens_for_others_and_for_its_own_calls() -> None:
    text = local("ports: [{name: http, number: 8080}, {name: fixed, number: 8081, listen: 9081}]")
    assert places(text) == {
        (WEB, "outbound", 0): "127.0.0.1",
        (WEB, "inbound", 8080): "127.0.0.1",
        (WEB, "app", 8080): "127.0.0.1",
        (WEB, "inbound", 8081): "127.0.0.1",
    }


def test_a_workload_elsewhere_listens_nowhere_here() -> None:
    assert places(service("orders"), networking("WorkloadEntry", "orders-1", "{address: 192.0.2.1}")) == {}


UPSTREAMS = "upstreams: [{host: orders, port: 8080}, {host: orders, port: 8080, bind: '127.0.0.1:18080'}]"


def test_an_upstream_listens_where_it_was_asked_to_or_on_a_free_port() -> None:
    mesh = compiled(service("orders"), local(UPSTREAMS)).mesh
    assert [key.number for key in listening_places(mesh) if key.purpose == "upstream"] == [0]
    assert fixed_places(mesh) == {PortKey(WEB, "upstream", 1): Address("127.0.0.1", 18080)}


def tokens(name: str, rule: str) -> str:
    return security("RequestAuthentication", name, f"jwtRules: [{rule}]")


def test_an_issuer_is_asked_once_with_the_longest_patience() -> None:
    mesh = compiled(
        tokens("a", "{issuer: https://one.example.com}"),
        tokens("b", "{issuer: https://one.example.com, timeout: 20s}"),
        tokens("c", "{issuer: https://one.example.com, jwksUri: https://one.example.com/keys}"),
    ).mesh
    assert {(one.issuer, one.uri, one.timeout.total_seconds()) for one in jwks_sources(mesh)} == {
        ("https://one.example.com", None, 20),
        ("https://one.example.com", "https://one.example.com/keys", 5),
    }


KEYS = (
    '{"keys": [{"kty": "EC", "crv": "P-256", "x": "eTyhol4qyqXoiC1LJHpxLaR_CXKGjKh7h-hK2IYe5vw", '
    '"y": "Yv8e7Q2VR_jaO9Mvhz6MMLBEbN51zlLuLCVsq-2x1RI"}]}'
)


def test_written_keys_are_not_fetched() -> None:
    mesh = compiled(tokens("a", f"{{issuer: https://one.example.com, jwks: '{KEYS}'}}")).mesh
    assert mesh.policies.request
    assert jwks_sources(mesh) == frozenset()


def needed(*texts: str) -> list[PlannedCredential]:
    mesh = compiled(*texts).mesh
    proxy = mesh.find_proxy(EDGE)
    assert proxy is not None
    return list(credentials(mesh, proxy))


def full_secret(name: str) -> str:
    certificate, key = pair(name)
    return secret(name, tls_crt=certificate, tls_key=key, ca_crt=certificate)


SESSIONS = PlannedCredential("session-ticket-keys", "agent")


def test_a_credential_without_a_secret_gets_a_development_certificate_for_its_hosts() -> None:
    assert needed(
        gateway(https("cert", "[b.example.com, a.example.com]"), https("cert", "['*.c.example.com']", port=8443))
    ) == [
        PlannedCredential("credential:shop/cert", "development", ("*.c.example.com", "a.example.com", "b.example.com")),
        SESSIONS,
    ]


def test_no_certificate_can_be_for_every_host() -> None:
    assert needed(gateway(https("cert", "['*']")))[0].development_dns == ("localhost",)


def test_a_secrets_certificate_is_told_by_its_content() -> None:
    planned, sessions = needed(gateway(https("cert")), full_secret("cert"))
    assert sessions == SESSIONS
    assert (planned.name, planned.development_dns) == ("credential:shop/cert", None)
    certificate, key = pair("another")
    changed, _ = needed(gateway(https("cert")), secret("cert", tls_crt=certificate, tls_key=key))
    assert planned.version != changed.version


def test_a_mutual_server_needs_the_clients_authority_too_and_no_development_certificate() -> None:
    planned = needed(gateway(https("cert", mode="MUTUAL")), full_secret("cert"))
    assert {one.name for one in planned} == {"credential:shop/cert", "credential-ca:shop/cert"}, "no sessions' keys"
    assert all(one.development_dns is None for one in planned)


def test_a_secret_of_another_namespace_is_not_meant() -> None:
    other = full_secret("cert").replace("namespace: shop", "namespace: other")
    assert needed(gateway(https("cert")), other)[0].development_dns == ("shop.example.com",)


def test_a_sidecar_needs_none() -> None:
    mesh = compiled(service("orders"), entry("orders-1")).mesh
    assert list(credentials(mesh, mesh.proxies[0])) == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("$(A)", "1"),
        ("$(A)-$(B)", "1-2"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("$()", "$()"),
    ],
)
def test_variables_as_kubernetes_expands_them(written: str, expected: str) -> None:
    assert expand(written, {"A": "1", "B": "2"}) == expected


def environment(mesh: Mesh) -> dict[str, str]:
    return workload_environment(mesh, offline_world(mesh), mesh.workloads[0])


def test_a_program_is_told_its_ports_its_proxy_and_its_upstreams() -> None:
    ports = "ports: [{name: http-main, number: 8080}, {name: admin, number: 8081, listen: 9081}]"
    mesh = compiled(service("orders"), local(f"{ports}\n{UPSTREAMS}")).mesh
    world, told = offline_world(mesh), environment(mesh)
    app, outbound = world.address(WEB, "app", 8080), world.address(WEB, "outbound", 0)
    assert app is not None
    assert told["PORT"] == told["PORT_HTTP_MAIN"] == str(app.port)
    assert told["PORT_ADMIN"] == "9081"
    assert told["http_proxy"] == told["HTTP_PROXY"] == f"http://w:not-a-credential@{outbound}"
    assert told["https_proxy"] == told["HTTPS_PROXY"] == told["http_proxy"]
    assert told["no_proxy"] == told["NO_PROXY"] == "localhost,127.0.0.1,::1"
    assert told["UPSTREAM_ORDERS_SHOP_SVC_CLUSTER_LOCAL_8080"] == "127.0.0.1:18080"


def test_a_program_is_expected_to_listen_where_its_sidecar_sends() -> None:
    ports = "ports: [{name: http, number: 8080}, {name: admin, number: 8081, listen: 9081}]"
    mesh = compiled(local(f"command: [web]\n{ports}")).mesh
    world = offline_world(mesh)
    (program,) = make_plan(mesh, world, NODE, timedelta(hours=1)).workloads
    assert program.listens == (world.address(WEB, "app", 8080), Address("127.0.0.1", 9081))


def test_a_plan_is_what_one_node_runs() -> None:
    text = local(
        "command: ['$(PYTHON)', '-m', web]\nargs: ['$(ONE)']\nenv: {ONE: '1', TWO: '$(ONE)2'}\nworkingDirectory: web"
    )
    mesh = compiled(gateway(https("cert")), text, entry("quiet")).mesh
    plan = make_plan(mesh, offline_world(mesh), NODE, timedelta(minutes=30))
    assert [(proxy.id, proxy.identity) for proxy in plan.proxies] == [
        (EDGE, "spiffe://cluster.local/ns/shop/sa/edge"),
        ("sidecar~shop~quiet", "spiffe://cluster.local/ns/shop/sa/default"),
        (WEB, "spiffe://cluster.local/ns/shop/sa/default"),
    ]
    assert [one.name for one in plan.proxies[0].credentials] == ["credential:shop/cert", "session-ticket-keys"]
    (program,) = plan.workloads
    assert program.argv == ("/usr/bin/python3", "-m", "web", "1")
    assert (program.env["ONE"], program.env["TWO"], program.working_directory) == ("1", "12", "web")
    assert "PYTHON" not in program.env
    assert program.listens == ()
    assert (plan.svid_ttl_seconds, plan.ads, plan.node) == (1800, NODE.ads, "local")


def test_another_node_runs_nothing_of_it() -> None:
    mesh = compiled(gateway(http(80))).mesh
    other = type(NODE)("other", NODE.ads, NODE.enrol_socket, NODE.python)
    assert make_plan(mesh, offline_world(mesh), other, timedelta(hours=1)).proxies == ()


def test_the_control_planes_identity_stands_in_the_root_namespace() -> None:
    mesh = compiled(mesh_config("trustDomain: example.org\nrootNamespace: mesh")).mesh
    assert control_plane_identity(mesh).uri == "spiffe://example.org/ns/mesh/sa/isthmus"


FOLDERS = Folders(Path("/state"), Path("/run/isthmus"))
ISOLATING = replace(NODE, folders=FOLDERS)
STARTED = "command: [web]\nports: [{name: http, number: 8080}, {name: proxy, number: 15001}]"


def test_what_is_started_is_isolated_where_that_can_be() -> None:
    mesh = compiled(local(STARTED), local("command: [web]\nnetwork: Host", "open"), entry("orders-1")).mesh
    assert wants_isolation(mesh)
    assert isolated_sidecars(mesh, ISOLATING) == {WEB}
    assert isolated_sidecars(mesh, NODE) == frozenset()
    assert not wants_isolation(compiled(entry("orders-1")).mesh)


def test_an_isolated_workload_has_the_ports_that_it_declares_and_callers_come_by_sockets() -> None:
    mesh = compiled(local(f"{STARTED}\n{UPSTREAMS}"), service("orders")).mesh
    assert not [key for key in listening_places(mesh, {WEB}) if key.proxy == WEB]
    found = {(key.purpose, key.number): address for key, address in isolated_places(mesh, {WEB}, FOLDERS).items()}
    assert found["app", 8080] == Address("127.0.0.1", 8080)
    assert found["inbound", 8080] == Address.unix(str(FOLDERS.inbound_socket(WEB, 8080)))
    assert found["outbound", 0] == Address("127.0.0.1", 15002), "15001 is the program's own"
    inner = [address.port for address in found.values() if not address.is_unix]
    assert len(inner) == len(set(inner))
    assert isolated_places(mesh, frozenset(), FOLDERS) == {}


def test_the_plan_says_who_is_isolated_and_where_their_relay_leads() -> None:
    mesh = compiled(local(STARTED), service("orders"), entry("orders-1")).mesh
    world = offline_world(mesh)
    assert make_plan(mesh, world, NODE, timedelta(hours=1)).relay is None
    isolated = replace(world, isolated=frozenset({WEB}))
    plan = make_plan(mesh, isolated, ISOLATING, timedelta(hours=1))
    assert {proxy.id: proxy.isolated for proxy in plan.proxies} == {WEB: True, "sidecar~shop~orders-1": False}
    assert [program.isolated for program in plan.workloads] == [True]
    assert plan.relay == (world.address("sidecar~shop~orders-1", "inbound", 8080),)


def test_an_isolated_program_has_no_way_past_its_sidecar() -> None:
    around = {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "192.0.2.0/24"}
    text = local("command: [web]").replace("name: web", f"name: web, annotations: {json.dumps(around)}")
    mesh = compiled(text).mesh
    world = offline_world(mesh)
    outside = workload_environment(mesh, world, mesh.workloads[0])["no_proxy"]
    inside = workload_environment(mesh, replace(world, isolated=frozenset({WEB})), mesh.workloads[0])["no_proxy"]
    assert outside == f"{inside},192.0.2.0/24"


def test_redirected_calls_have_two_more_ports_where_the_machine_can_redirect() -> None:
    mesh = compiled(local(f"{STARTED}\ninterceptionMode: REDIRECT")).mesh
    assert wants_redirection(mesh)
    able = isolated_places(mesh, {WEB}, FOLDERS, redirects=True)
    assert able[PortKey(WEB, "capture", 0)] == Address("127.0.0.1", 15003)
    assert able[PortKey(WEB, "dns", 0)] == Address("127.0.0.1", 15004)
    assert not {key.purpose for key in isolated_places(mesh, {WEB}, FOLDERS)} & {"capture", "dns"}
    world = replace(offline_world(mesh), addresses=able, isolated=frozenset({WEB}))
    plan = make_plan(mesh, world, ISOLATING, timedelta(hours=1))
    assert [proxy.redirection for proxy in plan.proxies] == [Redirection(connections=15003, names=15004)]
    assert [program.redirection for program in plan.workloads] == [Redirection(connections=15003, names=15004)]
    assert not wants_redirection(compiled(local(STARTED)).mesh)
