from __future__ import annotations

from typing import Any

import pytest

from isthmus.control.server_credentials import server_credentials
from isthmus.envoy_api import unpack
from isthmus.model.mesh import Mesh
from isthmus.xds.on_demand import FROM, OnDemand, on_demand
from isthmus.xds.snapshot import ROUTE

from .making import Given, compiled, given, networking, service

EDGE = "gateway~shop~edge"
SITE = service("site")


def server(number: int, host: str = "", more: str = "", port: int = 443, credential: str = "") -> str:
    tls = f"{{mode: SIMPLE, credentialName: {credential or f's{number}'}{more}}}"
    name = host or f"h{number}.example.com"
    return f"{{port: {{number: {port}, name: p{port}-{number}, protocol: HTTPS}}, hosts: ['{name}'], tls: {tls}}}"


def edge(*servers: str, name: str = "edge") -> str:
    return networking("Gateway", name, "selector: {app: edge}\nservers:\n- " + "\n- ".join(servers))


ROUTES = networking(
    "VirtualService", "all", "hosts: ['*']\ngateways: [edge]\nhttp: [{route: [{destination: {host: site}}]}]"
)
MANY = tuple(server(number) for number in range(FROM))


def mesh_of(*servers: str, beside: tuple[str, ...] = ()) -> Mesh:
    return compiled(SITE, edge(*servers), ROUTES, *beside).mesh


def found(mesh: Mesh) -> OnDemand:
    proxy = mesh.find_proxy(EDGE)
    assert proxy is not None
    return on_demand(mesh, proxy)


def chains(one: Given, port: int = 443) -> dict[str, Any]:
    return {chain.name: chain for chain in one.listener(f"gateway_{port}").filter_chains}


def test_a_few_servers_have_a_chain_each() -> None:
    mesh = mesh_of(*MANY[1:])
    assert found(mesh) == OnDemand()
    assert len(chains(given(mesh, EDGE))) == FROM - 1


def test_many_share_one() -> None:
    mesh = mesh_of(*MANY)
    one = given(mesh, EDGE)
    ((name, chain),) = chains(one).items()
    assert len(chain.filter_chain_match.server_names) == FROM
    assert one.names(ROUTE) == [name]
    context: Any = unpack(chain.transport_socket.typed_config)
    assert not context.common_tls_context.tls_certificate_sds_secret_configs
    assert context.disable_stateless_session_resumption
    assert context.disable_stateful_session_resumption
    assert not context.HasField("session_ticket_keys_sds_secret_config")
    selector: Any = unpack(context.common_tls_context.custom_tls_certificate_selector.typed_config)
    assert selector.config_source.api_config_source.api_type == 3, "DELTA_GRPC: only that says that there is none"
    assert chain.transport_socket_connect_timeout.seconds == 15


@pytest.mark.parametrize(
    "other",
    [
        server(FROM, more=", minProtocolVersion: TLSV1_3"),
        server(FROM, host="*.example.com"),
        server(FROM, host="localhost"),
        server(FROM, host="default"),
        "{port: {number: 443, name: own, protocol: HTTPS}, hosts: [own.example.com], tls: {mode: ISTIO_MUTUAL}}",
    ],
)
def test_who_is_not_alike_has_a_chain_of_its_own(other: str) -> None:
    """A wildcard's names are without number; a host without a dot could be called as a secret of the proxy's is."""
    mesh = mesh_of(*MANY, other)
    shared = found(mesh)
    assert len(shared.chains) == FROM
    assert len(chains(given(mesh, EDGE))) == 2


def test_sessions_that_are_wished_for_keep_a_chain_each() -> None:
    policy = (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: edge, namespace: shop}\n"
        "spec:\n  targetRefs: [{kind: Gateway, name: edge}]\n"
        "  tls: {session: {resumption: {stateless: {}}}}\n"
    )
    assert found(mesh_of(*MANY, beside=(policy,))) == OnDemand()
    assert len(found(mesh_of(*MANY, beside=(policy.replace("{stateless: {}}", "{}"),))).chains) == FROM


def test_the_chain_keeps_its_name_when_servers_come() -> None:
    before, after = (found(mesh_of(*servers)) for servers in (MANY, (*MANY, server(FROM + 1))))
    assert set(before.chains.values()) == set(after.chains.values())
    other = tuple(server(number, more=", minProtocolVersion: TLSV1_3") for number in range(FROM))
    assert not set(found(mesh_of(*other)).chains.values()) & set(before.chains.values())


def test_a_host_has_one_certificate_on_whichever_port() -> None:
    """Envoy asks by the name alone: another port's other certificate has to come otherwise."""
    more = tuple(server(number, port=8443, credential="other" if number == 7 else "") for number in range(FROM))
    shared = found(mesh_of(*MANY, *more))
    assert len(shared.chains) == 2 * FROM - 1
    assert ("shop/edge", "p8443-7") not in shared.chains
    assert shared.hosts["h7.example.com"] == "credential:shop/s7"


def test_the_agent_is_told_which_hosts_a_certificate_is_for() -> None:
    wide = server(FROM, host="*.example.com", credential="s1")
    mesh = mesh_of(*MANY, wide)
    proxy = mesh.find_proxy(EDGE)
    assert proxy is not None
    planned = {one.name: one for one in server_credentials(mesh, proxy, frozenset({"credential:shop/s2"}))}
    assert planned["credential:shop/s3"].hosts == ("h3.example.com",)
    assert not planned["credential:shop/s3"].at_once
    assert planned["credential:shop/s1"].at_once, "a server with a chain of its own has it, too"
    assert planned["credential:shop/s2"].at_once, "a client of the same proxy has it, too"
    assert planned["session-ticket-keys"].hosts == ()


def test_another_hosts_request_is_answered_by_the_same_chain() -> None:
    mesh = mesh_of(*MANY, server(FROM, host="*.example.com"))
    one = given(mesh, EDGE)
    name = next(iter(found(mesh).chains.values()))
    domains = {domain for host in one.virtual_hosts(name).values() for domain in host.domains}
    assert {"h1.example.com", "h2.example.com", "*"} <= domains
    assert "*.example.com" not in domains
