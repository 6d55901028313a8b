from __future__ import annotations

import base64

import pytest
from credential import pair, secret
from tests.real.pki import Authority
from traffic_manifest import Compiled, compiled, core, networking

from isthmus.model.client_traffic import ClientValidation, SanMatch, SanType, TlsVersion
from isthmus.model.gateway import Gateway, ServerHost, ServerProtocol, ServerTlsMode, narrower_host
from isthmus.model.match import Exact
from isthmus.model.traffic_policy import CertificateFiles

CERT, KEY = pair("edge")
ROOT = Authority("root")
CA = ROOT.pem
TLS_SECRET = secret("edge-tls", tls_crt=CERT, tls_key=KEY)


def server(port: int = 80, protocol: str = "HTTP", hosts: str = '["*.example.com"]', more: str = "") -> str:
    return f"- port: {{number: {port}, name: p{port}, protocol: {protocol}}}\n  hosts: {hosts}\n" + more


def https(tls: str, hosts: str = '["shop.example.com"]') -> str:
    """The ``tls`` field's value begins at 9:10."""
    return f"- port: {{number: 443, name: https, protocol: HTTPS}}\n  hosts: {hosts}\n  tls: {tls}"


def text(servers: str, **options: str) -> str:
    indented = "\n".join(f"  {line}" for line in servers.strip("\n").splitlines())
    selector = options.pop("selector", "{app: edge}")
    head = networking("Gateway", f"selector: {selector}\nservers:", **options)
    return head + indented + "\n"


def only(done: Compiled) -> Gateway:
    (found,) = done.mesh.gateways
    return found


def test_a_plain_server() -> None:
    done = compiled(text(server(8080, "http", '["Shop.example.com", "other/*", "./a.example.com", "*/b.example.com"]')))
    assert done.found == []
    gateway = only(done)
    assert (gateway.key, gateway.selector) == ("shop/web", (("app", "edge"),))
    (opened,) = gateway.servers
    assert (opened.port, opened.port_name, opened.protocol) == (8080, "p8080", ServerProtocol.HTTP)
    assert opened.hosts == (
        ServerHost("shop.example.com"),
        ServerHost("*", "other"),
        ServerHost("a.example.com", "shop"),
        ServerHost("b.example.com"),
    )
    assert opened.tls is None
    assert not opened.https_redirect
    assert str(opened.origin.source) == "<stdin>:7:5"


def test_https_redirect_and_bind() -> None:
    done = compiled(text(server(more="  tls: {httpsRedirect: true}\n  bind: 127.0.0.1")))
    assert done.found == []
    (opened,) = only(done).servers
    assert opened.https_redirect
    assert opened.bind == "127.0.0.1"
    assert opened.tls is None


def test_one_port_has_one_address() -> None:
    """Or the second server would be open where its manifest does not say."""
    first = server(more="  bind: 127.0.0.2\n", hosts="[a.example.com]")
    second = server(more="  bind: 127.0.0.3", hosts="[b.example.com]").replace("p80", "other")
    done = compiled(text(first + second))
    assert done.found == ["12:11 error ISM2111"]
    assert "Gateway/shop/web opens the port at 127.0.0.2" in done.messages
    assert [opened.bind for opened in only(done).servers] == ["127.0.0.2"]


def test_simple_tls_with_its_secret() -> None:
    tls = "{mode: SIMPLE, credentialName: edge-tls, minProtocolVersion: TLSV1_3, cipherSuites: [AES128-GCM-SHA256]}"
    done = compiled(text(https(tls)), TLS_SECRET)
    assert done.found == []
    found = only(done).servers[0].tls
    assert found is not None
    assert (found.mode, found.certificates, found.ca_credential) == (ServerTlsMode.SIMPLE, ("edge-tls",), None)
    assert (found.minimum_version, found.maximum_version) == (TlsVersion.TLSV1_3, TlsVersion.TLSV1_3)
    assert found.cipher_suites == ("AES128-GCM-SHA256",)


def test_a_missing_secret_is_warned_about_and_the_server_stays() -> None:
    done = compiled(text(https("{mode: SIMPLE, credentialName: edge-tls}")), TLS_SECRET.replace("shop", "other"))
    assert done.found == ["9:41 warning ISM2110"]
    assert only(done).servers


@pytest.mark.parametrize(
    ("secrets", "ca"),
    [
        ([secret("edge-tls", tls_crt=CERT, tls_key=KEY, ca_crt=CA)], "edge-tls"),
        ([secret("edge-tls", kind="Opaque", cert=CERT, key=KEY, cacert=CA)], "edge-tls"),
        ([TLS_SECRET, secret("edge-tls-cacert", kind="Opaque", cacert=CA)], "edge-tls-cacert"),
    ],
)
def test_mutual_tls_finds_the_clients_ca(secrets: list[str], ca: str) -> None:
    done = compiled(text(https("{mode: MUTUAL, credentialName: edge-tls}")), *secrets)
    assert done.found == []
    tls = only(done).servers[0].tls
    assert tls is not None
    assert (tls.mode, tls.ca_credential) == (ServerTlsMode.MUTUAL, ca)


@pytest.mark.parametrize("secrets", [[TLS_SECRET], [TLS_SECRET, secret("edge-tls-cacert", kind="Opaque", x=CERT)]])
def test_mutual_tls_without_a_ca_is_not_opened(secrets: list[str]) -> None:
    done = compiled(text(https("{mode: MUTUAL, credentialName: edge-tls}")), *secrets)
    assert done.found == ["9:41 error ISM2111"]
    assert not only(done).servers


@pytest.mark.parametrize("mode", ["MUTUAL", "OPTIONAL_MUTUAL"])
def test_what_clients_must_show(mode: str) -> None:
    spki, pin = base64.b64encode(bytes(32)).decode(), "AB" * 32
    tls = (
        f"{{mode: {mode}, credentialName: edge-tls, caCertCredentialName: clients, "
        f"subjectAltNames: [a.example.com, 10.0.0.1], "
        f"verifyCertificateSpki: ['{spki}'], verifyCertificateHash: ['{pin}']}}"
    )
    done = compiled(text(https(tls)), TLS_SECRET, secret("clients", kind="Opaque", ca_crt=CA))
    assert done.found == []
    found = only(done).servers[0].tls
    assert found is not None
    assert (found.mode, found.ca_credential) == (ServerTlsMode[mode], "clients")
    names = [SanMatch(of, Exact("a.example.com")) for of in (SanType.DNS, SanType.URI, SanType.EMAIL)]
    sans = (*names, SanMatch(SanType.IP_ADDRESS, Exact("10.0.0.1")))
    assert found.validation == ClientValidation(sans=sans, spki_hashes=(spki,), certificate_hashes=(pin,))


def test_certificates_in_files() -> None:
    files = "serverCertificate: /c/tls.crt, privateKey: /c/tls.key, caCertificates: /c/ca.crt, caCrl: /c/ca.crl"
    done = compiled(text(https(f"{{mode: MUTUAL, {files}}}")))
    assert done.found == []
    found = only(done).servers[0].tls
    assert found is not None
    assert found.certificates == (CertificateFiles("/c/tls.crt", "/c/tls.key"),)
    assert (found.ca_file, found.ca_credential, found.validation.crl_file) == ("/c/ca.crt", None, "/c/ca.crl")


def test_two_certificates_and_the_meshs_own() -> None:
    pairs = "[{serverCertificate: /a, privateKey: /b}, {serverCertificate: /c, privateKey: /d}]"
    written = (
        "{mode: SIMPLE, credentialNames: [edge-tls, x]}",
        f"{{mode: SIMPLE, tlsCertificates: {pairs}}}",
        "{mode: ISTIO_MUTUAL}",
    )
    found = [only(compiled(text(https(tls)), TLS_SECRET)).servers[0].tls for tls in written]
    assert [one.certificates for one in found if one is not None] == [
        ("edge-tls", "x"),
        (CertificateFiles("/a", "/b"), CertificateFiles("/c", "/d")),
        (),
    ]


def test_mutual_tls_without_any_secret_gets_no_development_ca() -> None:
    done = compiled(text(https("{mode: MUTUAL, credentialName: edge-tls}")))
    assert done.found == ["9:41 error ISM2111", "9:41 warning ISM2110"]
    assert not only(done).servers


@pytest.mark.parametrize(
    ("tls", "at"),
    [
        ("{mode: AUTO_PASSTHROUGH}", "9:17"),
        ("{mode: SIMPLE}", "9:10"),
    ],
)
def test_a_mode_that_is_not_supported_opens_nothing(tls: str, at: str) -> None:
    done = compiled(text(https(tls)), TLS_SECRET)
    assert done.found == [f"{at} error ISM2111"]
    assert not only(done).servers


@pytest.mark.parametrize(
    ("protocol", "tls", "takes"),
    [
        ("HTTP", "", "requests"),
        ("HTTPS", "{mode: SIMPLE, credentialName: edge-tls}", "requests over TLS"),
        ("TCP", "", "connections"),
        ("TLS", "{mode: SIMPLE, credentialName: edge-tls}", "connections over TLS"),
        ("TLS", "{mode: PASSTHROUGH}", "TLS as it came"),
        ("HTTPS", "{mode: PASSTHROUGH}", "TLS as it came"),
        ("TLS", "{}", "TLS as it came"),
    ],
)
def test_what_a_server_takes(protocol: str, tls: str, takes: str) -> None:
    done = compiled(text(server(9000, protocol, more=f"  tls: {tls}" if tls else "")), TLS_SECRET)
    assert done.found == []
    (found,) = only(done).servers
    own = "requests" if found.is_http else "connections"
    assert takes == ("TLS as it came" if found.passthrough else own + (" over TLS" if found.secured else ""))
    assert (found.tls is None) is (takes in ("requests", "connections", "TLS as it came"))


@pytest.mark.parametrize(
    "tls",
    [
        "{mode: PASSTHROUGH, credentialName: edge-tls}",
        "{credentialName: edge-tls}",
        "{mode: PASSTHROUGH, minProtocolVersion: TLSV1_3}",
        "{mode: PASSTHROUGH, cipherSuites: [AES128-SHA]}",
    ],
)
def test_what_only_who_ends_tls_needs(tls: str) -> None:
    """A certificate that is not used would look like one that is."""
    assert compiled(text(https(tls)), TLS_SECRET).found == ["7:5 error ISM1106"]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (("HTTP", ""), ("TCP", ""), ["error ISM2112"]),
        (("TCP", ""), ("HTTP", ""), ["error ISM2112"]),
        (("TCP", ""), ("TLS", "  tls: {mode: PASSTHROUGH}"), ["error ISM2112"]),
        (("TLS", "  tls: {mode: PASSTHROUGH}"), ("HTTP", ""), ["error ISM2112"]),
        (("TLS", "  tls: {mode: PASSTHROUGH}"), ("HTTPS", "  tls: {mode: SIMPLE, credentialName: edge-tls}"), []),
        (("HTTP", ""), ("GRPC", ""), []),
    ],
)
def test_one_port_is_for_one_use(first: tuple[str, str], second: tuple[str, str], found: list[str]) -> None:
    """Behind TLS, server names tell HTTP and connections apart."""
    servers = server(9000, first[0], more=f"{first[1]}\n") + server(9000, second[0], '["b.example.org"]', second[1])
    done = compiled(text(servers.replace("name: p9000", "name: other", 1)), TLS_SECRET)
    assert [one.partition(" ")[2] for one in done.found] == found


def test_a_secret_without_a_certificate_opens_nothing() -> None:
    done = compiled(text(https("{mode: SIMPLE, credentialName: edge-tls}")), secret("edge-tls", kind="Opaque", x=b"y"))
    assert done.found == ["9:41 error IST0161"]
    assert not only(done).servers


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        (server(protocol="HTPP"), "7:45 error ISM1106"),
        (server(protocol="HTTPS"), "7:5 error ISM1106"),
        (server(hosts="[]"), "8:12 error ISM1106"),
        (server(hosts='["a.*.com"]'), "8:13 error ISM1106"),
        (server(hosts='["/a.com"]'), "8:13 error ISM1106"),
        (server(more="  tls: {mode: SIMPLE, credentialName: x}"), "7:5 error ISM1106"),
        (server(more="  bind: edge"), "9:11 error ISM1106"),
        (server(80) + server(80), "5:3 error ISM1106"),
        (https("{mode: SIMPLE, credentialName: other/x}"), "9:41 error ISM1106"),
        (https("{mode: SIMPLE, credentialName: x, minProtocolVersion: TLSV1_1}"), "9:64 error ISM1106"),
        (https("{mode: SIMPLE, credentialName: x, cipherSuites: [DES-CBC3-SHA]}"), "9:59 error ISM1106"),
        (
            https("{mode: SIMPLE, credentialName: x, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}"),
            "9:10 error ISM1106",
        ),
        (https("{mode: SIMPLE, credentialName: x, subjectAltNames: [a]}"), "7:5 error ISM1106"),
        (https("{mode: ISTIO_MUTUAL, credentialName: x}"), "7:5 error ISM1106"),
        (https("{mode: ISTIO_MUTUAL, verifyCertificateSpki: []}"), "7:5 error ISM1106"),
        (https("{mode: MUTUAL, credentialName: x, caCrl: a}"), "9:51 error ISM1106"),
        (https("{mode: MUTUAL, credentialName: x, caCrl: /a}"), "9:10 error ISM1106"),
        (https("{mode: MUTUAL, credentialName: x, caCertificates: /a~b}"), "9:60 error ISM1106"),
        (https("{mode: MUTUAL, credentialName: x, caCertificates: /a, caCertCredentialName: b}"), "9:10 error ISM1106"),
        (https("{mode: MUTUAL, credentialName: x, verifyCertificateSpki: [AAAA]}"), "9:68 error ISM1106"),
        (https("{mode: MUTUAL, credentialName: x, verifyCertificateHash: ['ab:cd']}"), "9:68 error ISM1106"),
        (https("{mode: SIMPLE, serverCertificate: /a}"), "9:10 error ISM1106"),
        (https("{mode: SIMPLE, credentialName: x, credentialNames: [y]}"), "9:10 error ISM1106"),
        (https("{mode: SIMPLE, credentialNames: [x, y, z]}"), "9:42 error ISM1106"),
        (https("{mode: SIMPLE, credentialName: x, insecureSkipVerify: true}"), "9:64 error ISM2101"),
        (https("{mode: SIMPEL}"), "9:17 error ISM1106"),
    ],
)
def test_a_gateway_that_cannot_be_read_is_left_out(servers: str, found: str) -> None:
    done = compiled(text(servers))
    assert done.found == [found]
    assert not done.mesh.gateways


def test_a_gateway_needs_a_selector() -> None:
    assert compiled(text(server(), selector="{}")).found == ["5:13 error ISM1106"]


def test_two_gateways_claim_one_host() -> None:
    done = compiled(
        text(server(hosts='["a.example.com", "b.example.com"]'), name="second"),
        text(server(hosts='["b.example.com"]'), name="third"),
    )
    assert done.found == ["17:13 error IST0145"]
    assert "belongs to Gateway/shop/second" in done.messages
    assert [len(gateway.servers) for gateway in done.mesh.gateways] == [1, 0]


def test_servers_of_different_proxies_ports_or_namespaces_do_not_conflict() -> None:
    one = '["shop/a.example.com"]'
    done = compiled(
        text(server(hosts=one), name="one"),
        text(server(hosts=one), name="other-proxies", selector="{app: inner}"),
        text(server(8080, hosts=one), name="other-port"),
        text(server(hosts='["other/a.example.com"]'), name="other-virtual-services"),
    )
    assert done.found == []
    assert all(gateway.servers for gateway in done.mesh.gateways)


def test_with_tls_a_name_belongs_to_one_server_whatever_the_namespace() -> None:
    tls = "{mode: SIMPLE, credentialName: edge-tls}"
    done = compiled(
        text(https(tls, '["shop/a.example.com"]'), name="one"),
        text(https(tls, '["other/a.example.com"]'), name="two"),
        TLS_SECRET,
    )
    assert done.found == ["18:13 error IST0145"]


def test_a_pod_that_both_selectors_match_carries_both() -> None:
    pod = core(
        "Deployment",
        "spec: {template: {metadata: {labels: {app: edge, tier: front}}}}",
        version="apps/v1",
    )
    first, second = text(server(), name="one"), text(server(), name="two", selector="{tier: front}")
    assert compiled(first, second).found == []
    assert compiled(first, second, pod).found == ["17:13 error IST0145"]


def test_a_plaintext_server_on_a_port_with_tls_is_not_opened() -> None:
    done = compiled(
        text(https("{mode: SIMPLE, credentialName: edge-tls}")), text(server(443), name="plain"), TLS_SECRET
    )
    assert done.found == ["17:11 error ISM2112"]
    assert [len(gateway.servers) for gateway in done.mesh.gateways] == [1, 0]


def test_what_becomes_of_a_deployment() -> None:
    annotations = "annotations: {sidecar.istio.io/inject: 'true'}"
    pod = f"spec: {{replicas: 3, template: {{metadata: {{labels: {{app: LABEL}}, {annotations}}}}}}}"
    carrier = core("Deployment", pod.replace("LABEL", "edge"), "edge", version="apps/v1")
    idle = core("Deployment", pod.replace("LABEL", "idle"), "idle", version="apps/v1")
    busy = core("Deployment", pod.replace("LABEL", "busy"), "busy", version="apps/v1")
    entry = networking("WorkloadEntry", "address: 127.0.0.1\nlabels: {app: busy, more: label}", "busy")
    done = compiled(carrier, idle, busy, entry, text(server()))
    assert done.found == ["1:1 info ISM2114", "1:1 info ISM2114", "6:1 info ISM2113"]
    assert "replicas: 3" in done.messages
    assert "sidecar injection" in done.messages


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [
        ("*", "a.com", "a.com"),
        ("a.com", "*", "a.com"),
        ("*.a.com", "b.a.com", "b.a.com"),
        ("*.a.com", "*.b.a.com", "*.b.a.com"),
        ("*.a.com", "a.com", None),
        ("*.a.com", "xa.com", None),
        ("a.com", "b.com", None),
        ("a.com", "a.com", "a.com"),
    ],
)
def test_what_two_hosts_have_in_common(left: str, right: str, common: str | None) -> None:
    assert narrower_host(left, right) == common
    assert narrower_host(right, left) == common
