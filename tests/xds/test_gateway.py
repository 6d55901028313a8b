from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.envoy_api import unpack
from isthmus.model.world import Address, PortKey
from isthmus.xds.snapshot import LISTENER, ROUTE, message
from tests.kinds.credential import pair, secret

from .making import Given, compiled, entry, gateway, given, given_by, hcm_of, networking, security, service

EDGE = "gateway~shop~edge"
SITE = service("site")


def edge(*servers: str, name: str = "edge", namespace: str = "shop", selector: str = "{app: edge}") -> str:
    return networking("Gateway", name, f"selector: {selector}\nservers:\n- " + "\n- ".join(servers), namespace)


def http(hosts: str, port: int = 80, name: str = "http", more: str = "") -> str:
    return f"{{port: {{number: {port}, name: {name}, protocol: HTTP}}, hosts: {hosts}{more}}}"


def https(hosts: str, name: str = "https", credential: str = "cert", mode: str = "SIMPLE", port: int = 443) -> str:
    tls = f"{{mode: {mode}, credentialName: {credential}}}"
    return f"{{port: {{number: {port}, name: {name}, protocol: HTTPS}}, hosts: {hosts}, tls: {tls}}}"


def client_authority(name: str, namespace: str = "shop") -> str:
    certificate, key = pair(name)
    return secret(name, namespace, tls_crt=certificate, tls_key=key, ca_crt=certificate)


def routes(hosts: str, gateways: str = "[edge]", name: str = "site", namespace: str = "shop", prefix: str = "/") -> str:
    match = f"match: [{{uri: {{prefix: {prefix}}}}}], "
    destination = "[{destination: {host: site.shop.svc.cluster.local}}]"
    spec = f"hosts: {hosts}\ngateways: {gateways}\nhttp: [{{{match}route: {destination}}}]"
    return networking("VirtualService", name, spec, namespace)


def domains(found: Given, name: str = "http.80") -> dict[str, list[str]]:
    return {host.name: list(host.domains) for host in found.virtual_hosts(name).values()}


@pytest.mark.parametrize(
    ("server", "virtual_service", "expected"),
    [
        ("shop.example.com", "shop.example.com", "shop.example.com"),
        ("*.example.com", "shop.example.com", "shop.example.com"),
        ("shop.example.com", "*.example.com", "shop.example.com"),
        ("*", "*.example.com", "*.example.com"),
        ("*.example.com", "*", "*.example.com"),
        ("*.a.example.com", "*.example.com", "*.a.example.com"),
        ("*", "*", "*"),
        ("*.example.com", "example.com", None),
        ("shop.example.com", "other.example.com", None),
        ("*.example.com", "badexample.com", None),
    ],
)
def test_hosts_are_narrowed_to_what_both_mean(server: str, virtual_service: str, expected: str | None) -> None:
    found = given_by(EDGE, SITE, edge(http(f"['{server}']")), routes(f"['{virtual_service}']"))
    assert [list(host) for host in domains(found).values()] == ([[expected]] if expected else [])


@pytest.mark.parametrize(
    ("host", "namespace", "bound"),
    [
        ("shop.example.com", "other", True),
        ("./shop.example.com", "shop", True),
        ("./shop.example.com", "other", False),
        ("other/shop.example.com", "other", True),
        ("other/shop.example.com", "shop", False),
        ("'*/shop.example.com'", "other", True),
    ],
)
def test_a_server_may_be_for_the_virtual_services_of_one_namespace(host: str, namespace: str, bound: bool) -> None:
    texts = (SITE, edge(http(f"[{host}]")), routes("[shop.example.com]", "[shop/edge]", namespace=namespace))
    assert bool(domains(given_by(EDGE, *texts))) is bound


def test_several_virtual_services_share_a_host_and_the_catch_all_comes_last() -> None:
    found = given_by(
        EDGE,
        SITE,
        gateway(),
        routes("[shop.example.com]", name="all"),
        routes("[shop.example.com]", name="a", prefix="/a"),
    )
    (host,) = found.virtual_hosts("http.80").values()
    assert [one.match.prefix for one in host.routes] == ["/a", "/"]


def test_a_virtual_service_that_means_a_host_twice_is_bound_once() -> None:
    found = given_by(EDGE, SITE, gateway(), routes("['*.example.com', shop.example.com]"))
    (host,) = found.virtual_hosts("http.80").values()
    assert len(host.routes) == 1


def test_two_gateways_of_one_proxy_share_its_port() -> None:
    other = edge(http("[b.example.com]"), name="other")
    found = given_by(
        EDGE, SITE, gateway(), other, routes("[shop.example.com]"), routes("[b.example.com]", "[other]", name="b")
    )
    assert found.names(LISTENER) == ["gateway_80"]
    assert list(domains(found)) == ["shop.example.com:80", "b.example.com:80"]


def test_a_redirect_to_https_names_the_published_port() -> None:
    mesh = compiled(
        edge(http("[shop.example.com]", more=", tls: {httpsRedirect: true}"), https("['*.example.com']"))
    ).mesh
    world = offline_world(mesh)
    published = {**world.addresses, PortKey(EDGE, "gateway", 443): Address("127.0.0.1", 8443)}
    (host,) = given(mesh, EDGE, replace(world, addresses=published)).virtual_hosts("http.80").values()
    (route,) = host.routes
    assert (route.redirect.https_redirect, route.redirect.port_redirect) == (True, 8443)


def test_a_redirect_without_an_https_server_means_443() -> None:
    texts = edge(http("[shop.example.com]", more=", tls: {httpsRedirect: true}"), https("[b.example.com]", port=8443))
    (host,) = given_by(EDGE, texts).virtual_hosts("http.80").values()
    assert host.routes[0].redirect.port_redirect == 443


def test_nothing_is_served_where_a_redirect_is_asked_for() -> None:
    server = http("[shop.example.com]", more=", tls: {httpsRedirect: true}")
    (host,) = given_by(EDGE, SITE, edge(server), routes("[shop.example.com]")).virtual_hosts("http.80").values()
    assert [one.name for one in host.routes] == ["https-redirect"]


def test_servers_with_tls_have_chains_of_their_own() -> None:
    found = given_by(
        EDGE,
        SITE,
        edge(https("[a.example.com]", "https-a", "a"), https("['*']", "https-rest", "rest")),
        routes("[a.example.com]"),
    )
    first, rest = found.listener("gateway_443").filter_chains
    assert list(first.filter_chain_match.server_names) == ["a.example.com"]
    assert list(rest.filter_chain_match.server_names) == []
    assert [chain.filter_chain_match.transport_protocol for chain in (first, rest)] == ["tls", "tls"]
    assert found.names(ROUTE) == ["https.443.https-a.edge.shop", "https.443.https-rest.edge.shop"]
    assert [hcm_of(chain).rds.route_config_name for chain in (first, rest)] == found.names(ROUTE)
    certificates = [
        unpack(chain.transport_socket.typed_config).common_tls_context.tls_certificate_sds_secret_configs[0].name
        for chain in (first, rest)
    ]
    assert certificates == ["credential:shop/a", "credential:shop/rest"]


MUTUAL = https("[secure.example.com]", "secure", "clients", "MUTUAL")


def answers(found: Given, server: str) -> dict[str, Any]:
    """By domain: the status of a direct answer, or the cluster; but for what is left (see test_misdirected.py)."""
    return {
        domain: host.routes[0].direct_response.status or host.routes[0].route.cluster.partition("||")[2]
        for host in found.virtual_hosts(f"https.443.{server}.edge.shop").values()
        if host.name not in ("unrouted:443", "elsewhere:443")
        for domain in host.domains
    }


@pytest.mark.parametrize("hosts", ["[secure.example.com]", "['*.example.com']", "['*']"])
def test_a_host_that_asks_for_client_certificates_is_not_reached_by_a_wildcards_name(hosts: str) -> None:
    """Server name a.example.com, host secure.example.com: no certificate was asked for on this connection."""
    texts = (SITE, client_authority("clients"), edge(https("['*.example.com']", "wide"), MUTUAL), routes(hosts))
    found = given_by(EDGE, *texts)
    assert answers(found, "wide")["secure.example.com"] == 421
    assert answers(found, "secure") == {"secure.example.com": "site.shop.svc.cluster.local"}


def test_a_host_within_a_wildcard_that_asks_for_client_certificates() -> None:
    secure = https("['*.secure.example.com']", "secure", "clients", "MUTUAL")
    texts = (SITE, client_authority("clients"), edge(https("['*.example.com']", "wide"), secure))
    found = given_by(EDGE, *texts, routes("[a.secure.example.com, b.example.com]"))
    assert answers(found, "wide") == {"*.secure.example.com": 421, "b.example.com": "site.shop.svc.cluster.local"}


def test_servers_that_ask_for_the_same_may_stand_for_each_other() -> None:
    """Browsers reuse a connection for every host of its certificate."""
    wide, narrow = https("['*.example.com']", "wide"), https("[secure.example.com]", "secure", "other")
    found = given_by(EDGE, SITE, edge(wide, narrow), routes("[secure.example.com]"))
    assert answers(found, "wide") == {"secure.example.com": "site.shop.svc.cluster.local"}
    wide = https("['*.example.com']", "wide", "clients", "MUTUAL")
    found = given_by(EDGE, SITE, client_authority("clients"), edge(wide, MUTUAL), routes("[secure.example.com]"))
    assert answers(found, "wide") == {"secure.example.com": "site.shop.svc.cluster.local"}


def test_client_certificates_of_another_authority_are_not_the_same() -> None:
    wide = https("['*.example.com']", "wide", "others", "MUTUAL")
    texts = (client_authority("clients"), client_authority("others"), edge(wide, MUTUAL))
    found = given_by(EDGE, SITE, *texts, routes("[secure.example.com]"))
    assert answers(found, "wide") == {"secure.example.com": 421}


def test_headers_that_only_the_inside_may_set_are_taken_away_first() -> None:
    """Those of every token rule, also of workloads behind the gateway."""
    inside = security(
        "RequestAuthentication",
        "tokens",
        "selector: {matchLabels: {app: site}}\n"
        "jwtRules: [{issuer: https://one.example.com, outputPayloadToHeader: X-Payload}]",
    )
    hcm = hcm_of(given_by(EDGE, gateway(), inside).listener("gateway_80").filter_chains[0])
    (extension,) = hcm.early_header_mutation_extensions
    mutations: Any = unpack(extension.typed_config)
    assert [one.remove for one in mutations.mutations] == ["x-payload", "x_payload"]


def test_the_port_where_requests_really_come_to() -> None:
    """``derivePort: FROM_REQUEST_PORT`` means the published one; matches on ``port`` the declared."""
    spec = """\
        hosts: [shop.example.com]
        gateways: [edge]
        http:
        - match: [{port: 80}]
          redirect: {uri: /new, derivePort: FROM_REQUEST_PORT}
        """
    mesh = compiled(gateway(), networking("VirtualService", "site", spec)).mesh
    world = offline_world(mesh)
    published = {**world.addresses, PortKey(EDGE, "gateway", 80): Address("127.0.0.1", 8080)}
    (host,) = given(mesh, EDGE, replace(world, addresses=published)).virtual_hosts("http.80").values()
    assert host.routes[0].redirect.port_redirect == 8080


HALF_OPEN = networking(
    "Gateway",
    "edge",
    "selector: {app: edge}\n"
    "servers:\n"
    '- port: {number: 443, name: https, protocol: HTTPS}\n  hosts: ["*.example.com"]\n'
    "  tls: {mode: SIMPLE, credentialName: all}\n"
    "- port: {number: 443, name: https-admin, protocol: HTTPS}\n  hosts: [admin.example.com]\n"
    "  tls: {mode: MUTUAL, credentialName: admin}\n",
)
EVERYTHING = networking(
    "VirtualService",
    "all",
    'hosts: ["*.example.com"]\ngateways: [edge]\nhttp: [{route: [{destination: {host: site}}]}]',
)
ADMIN_ROUTES = networking(
    "VirtualService",
    "admin",
    "hosts: [admin.example.com]\ngateways: [edge]\nhttp: [{route: [{destination: {host: site}}]}]",
)


def test_hosts_of_a_server_without_its_ca_are_misdirected() -> None:
    """No wildcard's server answers in the place of one that is not opened."""
    given = given_by("gateway~shop~edge", HALF_OPEN, EVERYTHING, ADMIN_ROUTES, service("site"))
    (name,) = given.names(ROUTE)
    answers = {
        host.domains[0]: host.routes[0].direct_response.status or host.routes[0].route.cluster
        for host in given.virtual_hosts(name).values()
    }
    assert answers.pop("*") == 421
    assert answers["admin.example.com"] == 421
    assert answers["*.example.com"].startswith("outbound|8080|")


def policy(headers: str, section: str = "secure") -> str:
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: own, namespace: shop}\n"
        f"spec:\n  targetRefs: [{{kind: Gateway, name: edge, sectionName: {section}}}]\n  headers: {headers}\n"
    )


def chain_of(found: Given, host: str) -> Any:
    chains = found.listener("gateway_443").filter_chains
    return next(hcm_of(chain) for chain in chains if host in chain.filter_chain_match.server_names)


def test_what_is_told_of_a_certificate_is_one_servers_and_nobody_elses_to_say() -> None:
    headers = "{clientCertificate: {}, xForwardedClientCert: {certDetailsToAdd: [URI]}}"
    servers = edge(https("[open.example.com]", "open"), MUTUAL)
    found = given_by(EDGE, SITE, client_authority("clients"), servers, policy(headers))
    secure, opened = chain_of(found, "secure.example.com"), chain_of(found, "open.example.com")
    details = secure.set_current_client_cert_details
    told = [details.subject.value, details.cert, details.chain, details.dns, details.uri]
    assert told == [False, False, False, False, True]
    assert secure.forward_client_cert_details == opened.forward_client_cert_details == secure.SANITIZE_SET
    for manager in (secure, opened):
        mutations: Any = unpack(manager.early_header_mutation_extensions[0].typed_config)
        (taken,) = (one.remove_on_match.key_matcher.safe_regex.regex for one in mutations.mutations)
        assert taken == "x[-_]client[-_]cert", "at every server, whoever sets it"
    configurations = {name: found.virtual_hosts(name) for name in found.names(ROUTE)}
    assert len(configurations) == 2
    added = [_added(found, name) for name in sorted(configurations)]
    assert added == [[], [("x-client-cert", "%DOWNSTREAM_PEER_CERT%")]]


def _added(found: Given, name: str) -> list[tuple[str, str]]:
    configuration: Any = message(found.snapshot.of(ROUTE)[name])
    return [(one.header.key, one.header.value) for one in configuration.request_headers_to_add]


def test_a_programs_own_proxy_takes_those_headers_away() -> None:
    texts = (SITE, client_authority("clients"), edge(MUTUAL), policy("{clientCertificate: {}}"), entry("site-1"))
    (chain,) = given_by("sidecar~shop~site-1", *texts).listener("outbound").filter_chains
    mutations: Any = unpack(hcm_of(chain).early_header_mutation_extensions[0].typed_config)
    assert "x[-_]client[-_]cert" in [one.remove_on_match.key_matcher.safe_regex.regex for one in mutations.mutations]


def test_connections_of_known_clients_end() -> None:
    found = given_by(EDGE, SITE, client_authority("clients"), edge(https("[open.example.com]", "open"), MUTUAL))
    lives = [
        chain_of(found, host).common_http_protocol_options.max_connection_duration.seconds
        for host in ("secure.example.com", "open.example.com")
    ]
    assert lives == [900, 0], "a quarter of an hour"
