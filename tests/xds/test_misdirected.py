from __future__ import annotations

from typing import Any

import pytest

from tests.kinds.credential import pair, secret

from .making import Given, compiled, gateway, given_by, networking, service

EDGE = "gateway~shop~edge"
SITE = service("site")


def server(name: str, hosts: str, mode: str = "SIMPLE", authority: str = "clients") -> str:
    tls = f"{{mode: {mode}, credentialName: {authority}}}"
    return f"{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: {hosts}, tls: {tls}}}"


def edge(*servers: str) -> str:
    return networking("Gateway", "edge", "selector: {app: edge}\nservers:\n- " + "\n- ".join(servers))


def routes(hosts: str) -> str:
    spec = f"hosts: {hosts}\ngateways: [edge]\nhttp: [{{route: [{{destination: {{host: site}}}}]}}]"
    return networking("VirtualService", "site", spec)


def authority(name: str) -> str:
    certificate, key = pair(name)
    return secret(name, "shop", tls_crt=certificate, tls_key=key, ca_crt=certificate)


def status_of(host: Any) -> int:
    """Of what is not routed on; 404: no route."""
    if not host.routes:
        return 404
    return int(host.routes[0].direct_response.status) or 200


def answers(found: Given, name: str) -> dict[str, int]:
    hosts = found.virtual_hosts(f"https.443.{name}.edge.shop").values()
    return {domain: status_of(host) for host in hosts for domain in host.domains}


BOTH = (server("a", "[a.example.com]"), server("b", "[b.example.com, c.example.com]", "MUTUAL"))


def test_every_host_of_another_server_is_misdirected() -> None:
    texts = (SITE, authority("clients"), edge(*BOTH), routes("[a.example.com, b.example.com]"))
    found = given_by(EDGE, *texts)
    assert answers(found, "a") == {"a.example.com": 200, "*": 421}
    assert answers(found, "b") == {"b.example.com": 200, "c.example.com": 404, "*": 421}


def test_own_hosts_without_a_route_are_not_found() -> None:
    """Nobody else has them: another connection would not help."""
    found = given_by(EDGE, SITE, edge(server("wide", "['*.example.com']")), routes("[a.example.com]"))
    assert answers(found, "wide") == {"a.example.com": 200, "*.example.com": 404, "*": 421}


def test_a_server_for_every_host_sends_nobody_elsewhere() -> None:
    found = given_by(EDGE, SITE, edge(server("all", "['*']")), routes("[a.example.com]"))
    assert answers(found, "all") == {"a.example.com": 200, "*": 404}


def test_without_tls_there_is_no_other_connection() -> None:
    found = given_by(EDGE, gateway())
    assert [host for host in found.virtual_hosts("http.80") if host.startswith("elsewhere")] == []


@pytest.mark.parametrize(("theirs", "expected"), [("MUTUAL", 421), ("SIMPLE", 200)])
def test_a_wildcard_answers_for_a_host_that_asks_for_the_same(theirs: str, expected: int) -> None:
    servers = (server("wide", "['*.example.com']"), server("one", "[one.example.com]", theirs))
    found = given_by(EDGE, SITE, authority("clients"), edge(*servers), routes("[one.example.com]"))
    assert answers(found, "wide")["one.example.com"] == expected


def test_other_versions_are_no_other_demand_of_clients() -> None:
    """They are the handshake's: what a client agreed to at one server is as good at the other."""
    text = server("one", "[one.example.com]", "MUTUAL").replace("mode:", "minProtocolVersion: TLSV1_3, mode:")
    servers = (server("wide", "['*.example.com']", "MUTUAL"), text)
    mesh = compiled(SITE, authority("clients"), edge(*servers)).mesh
    assert len(mesh.gateways[0].servers) == 2
    found = given_by(EDGE, SITE, authority("clients"), edge(*servers), routes("[one.example.com]"))
    assert answers(found, "wide")["one.example.com"] == 200
