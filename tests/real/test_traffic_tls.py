"""TLS of gateways: certificates of Secrets, clients' certificates, versions and ciphers, on real Envoys."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.traffic import Manifest, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.traffic_credentials import Authority, encoded, secret, tls_data
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

TLS = "Gateway.spec.servers[].tls."
STRONG = "ECDHE-ECDSA-AES256-GCM-SHA384"
WEAKER = "ECDHE-ECDSA-AES128-GCM-SHA256"
NOT_OPENED = ("no-key", "other-key", "no-ca", "opaque-no-pair")


@dataclass(frozen=True, slots=True)
class Authorities:
    """Of servers, of clients, and of nobody that is known."""

    servers: Authority
    clients: Authority
    strangers: Authority


def named(name: str) -> str:
    return f"{name}.example.com"


def https(name: str, credential: str | None = None, mode: str = "SIMPLE", **tls: Any) -> Manifest:
    """A server of port 443 for one host, whose certificate is in the Secret of its name."""
    settings = {"mode": mode, "credentialName": credential or name, **tls}
    return server(443, named(name), protocol="HTTPS", name=name, tls=settings)


def secrets(authorities: Authorities) -> Iterator[Manifest]:
    servers, clients = authorities.servers, authorities.clients.pem

    def pair(name: str, **more: bytes) -> dict[str, bytes]:
        return tls_data(servers.certify(named(name)), **more)

    for name in ("data", "modern", "old", "strong"):
        yield secret(name, type="kubernetes.io/tls", data=pair(name))
    yield secret("plain", type="kubernetes.io/tls", stringData={k: v.decode() for k, v in pair("plain").items()})
    opaque = servers.certify(named("opaque"))
    yield secret("opaque", type="Opaque", data={"cert": opaque.certificate, "key": opaque.key})
    overlaid = {"data": pair("elsewhere"), "stringData": {k: v.decode() for k, v in pair("overlaid").items()}}
    yield secret("overlaid", type="kubernetes.io/tls", **overlaid)
    yield secret("mutual", type="kubernetes.io/tls", data=pair("mutual", **{"ca.crt": clients}))
    yield secret("mutual-apart", type="kubernetes.io/tls", data=pair("mutual-apart"))
    yield secret("mutual-apart-cacert", type="Opaque", data={"cacert": clients})
    # What cannot be used, each in its way. Another namespace's Secret is not this one's.
    yield secret("missing", "bank", type="kubernetes.io/tls", data=pair("missing"))
    yield secret("no-key", type="kubernetes.io/tls", data={"tls.crt": pair("no-key")["tls.crt"]})
    yield secret("other-key", type="kubernetes.io/tls", data={**pair("a"), "tls.key": pair("b")["tls.key"]})
    yield secret("no-ca", type="kubernetes.io/tls", data=pair("no-ca"))
    yield secret("opaque-no-pair", type="Opaque", data={"certificate": opaque.certificate, "secret": opaque.key})


def manifests(authorities: Authorities, port: int) -> str:
    return dump(
        gateway(
            "edge",
            *(https(name) for name in ("data", "plain", "opaque", "overlaid", "missing")),
            https("modern", minProtocolVersion="TLSV1_3"),
            https("old", maxProtocolVersion="TLSV1_2"),
            https("strong", maxProtocolVersion="TLSV1_2", cipherSuites=[STRONG]),
            https("mutual", mode="MUTUAL"),
            https("mutual-apart", mode="MUTUAL"),
            *(https(name, mode="MUTUAL" if name == "no-ca" else "SIMPLE") for name in NOT_OPENED),
            selector={"app": "edge"},
        ),
        # On the same port of the same proxy.
        gateway("second", https("second", credential="data"), selector={"app": "edge"}),
        routes("all", ["*.example.com"], {"route": [to("web")]}, gateways=["edge", "second"]),
        service("web"),
        workload("web-1", port, {"app": "web"}),
        manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}),
        *secrets(authorities),
    )


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    return Authorities(Authority("servers"), Authority("clients"), Authority("strangers"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, authorities: Authorities) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("tls")
    with Backend() as backend, Up(folder, {"all.yaml": manifests(authorities, backend.port)}) as running:
        yield running


def status(up: Up, name: str, context: ssl.SSLContext, host: str | None = None) -> int:
    """Of a request over TLS to one host; 0: the handshake failed."""
    options = {"headers": {"host": named(host)}} if host else {}
    with httpx.Client(verify=context, trust_env=False, timeout=20) as client:
        try:
            return up.send(client, "GET", f"https://{named(name)}/", **options).status_code
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
            return 0


def handshake(up: Up, name: str, context: ssl.SSLContext) -> tuple[str | None, str, bytes]:
    """Version, cipher and the server's certificate (DER)."""
    with (
        socket.create_connection(up.gateway(443), 30) as raw,
        context.wrap_socket(raw, server_hostname=named(name)) as secured,
    ):
        cipher, certificate = secured.cipher(), secured.getpeercert(binary_form=True)
        assert cipher is not None
        assert certificate is not None
        return secured.version(), cipher[0], certificate


def limited(
    authority: Authority, minimum: ssl.TLSVersion, maximum: ssl.TLSVersion, ciphers: str = ""
) -> ssl.SSLContext:
    context = authority.trusted()
    context.minimum_version, context.maximum_version = minimum, maximum
    if ciphers:
        context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("data", marks=enforces("Secret.data", TLS + "credentialName", TLS + "mode")),
        pytest.param("plain", marks=enforces("Secret.stringData")),
        pytest.param("opaque", marks=enforces("Secret.type")),
        pytest.param("overlaid", marks=enforces("Secret.stringData")),
    ],
)
def test_certificate_of_the_secret_is_served(up: Up, authorities: Authorities, name: str) -> None:
    assert status(up, name, authorities.servers.trusted()) == 200
    assert status(up, name, up.trust()) == 0, "not by the mesh's own authority"


@enforces(TLS + "credentialName")
def test_without_its_secret_a_development_certificate_stands_in(up: Up, authorities: Authorities) -> None:
    """A Secret of the same name in another namespace is not it."""
    assert status(up, "missing", up.trust()) == 200
    assert status(up, "missing", authorities.servers.trusted()) == 0
    assert "ISM2110" in up.output


@enforces("Secret.type", "Secret.data", TLS + "mode")
@pytest.mark.parametrize("name", NOT_OPENED)
def test_server_whose_secret_cannot_be_used_is_not_opened(up: Up, authorities: Authorities, name: str) -> None:
    hosts = [host for listener in up.ready["gateways"][0]["listeners"] for host in listener["hosts"]]
    assert named(name) not in hosts
    assert status(up, name, authorities.servers.trusted()) == 0
    assert status(up, name, up.trust()) == 0
    assert f'"{name}"' in up.output


def test_servers_of_one_port_are_told_apart_by_sni(up: Up, authorities: Authorities) -> None:
    trusted = authorities.servers.trusted()
    certificates = {name: handshake(up, name, trusted)[2] for name in ("data", "plain", "mutual")}
    assert len(set(certificates.values())) == 3
    assert status(up, "unheard-of", trusted) == 0
    unverified = ssl.create_default_context(cadata=authorities.servers.pem.decode())
    unverified.check_hostname = False
    assert handshake(up, "second", unverified)[2] == certificates["data"]


def test_host_of_another_server_is_not_reached_through_this_one(up: Up, authorities: Authorities) -> None:
    """Or who has no client certificate would reach a MUTUAL host through a SIMPLE one."""
    assert status(up, "data", authorities.servers.trusted(), host="data") == 200
    assert status(up, "data", authorities.servers.trusted(), host="mutual") in (404, 421)
    assert status(up, "data", authorities.servers.trusted(), host="plain") in (404, 421)


@enforces(TLS + "mode", "Secret.data")
@pytest.mark.parametrize("name", ["mutual", "mutual-apart"])
def test_mutual_asks_for_a_certificate_of_the_clients_authority(
    up: Up, authorities: Authorities, tmp_path: Path, name: str
) -> None:
    servers = authorities.servers
    good = authorities.clients.certify("alice.example.org").written(tmp_path, "good")
    bad = authorities.strangers.certify("alice.example.org").written(tmp_path, "bad")
    # The authority of servers, and of the mesh, certify no clients.
    own = servers.certify(named(name)).written(tmp_path, "own")
    assert status(up, name, servers.trusted(good)) == 200
    found = {status(up, name, context) for context in (servers.trusted(), servers.trusted(bad), servers.trusted(own))}
    assert found == {0}


@enforces(TLS + "mode")
def test_simple_asks_for_no_certificate(up: Up, authorities: Authorities, tmp_path: Path) -> None:
    """One that is sent anyway is nobody's identity."""
    sent = authorities.strangers.certify("alice.example.org").written(tmp_path, "sent")
    with httpx.Client(verify=authorities.servers.trusted(sent), trust_env=False, timeout=30) as client:
        answer = up.send(client, "GET", f"https://{named('data')}/")
    assert answer.status_code == 200
    assert "alice" not in (header(answer.json(), "x-forwarded-client-cert") or "")


V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@enforces(TLS + "minProtocolVersion", TLS + "maxProtocolVersion")
@pytest.mark.parametrize(
    ("name", "offered", "spoken"),
    [
        ("data", (V1_2, V1_2), "TLSv1.2"),
        ("data", (V1_3, V1_3), "TLSv1.3"),
        ("modern", (V1_2, V1_3), "TLSv1.3"),
        ("modern", (V1_2, V1_2), None),
        ("old", (V1_2, V1_3), "TLSv1.2"),
        ("old", (V1_3, V1_3), None),
    ],
)
def test_versions(
    up: Up, authorities: Authorities, name: str, offered: tuple[ssl.TLSVersion, ssl.TLSVersion], spoken: str | None
) -> None:
    context = limited(authorities.servers, *offered)
    if spoken is None:
        with pytest.raises(ssl.SSLError):
            handshake(up, name, context)
    else:
        assert handshake(up, name, context)[0] == spoken


@enforces(TLS + "cipherSuites")
def test_cipher_suites(up: Up, authorities: Authorities) -> None:
    weaker = limited(authorities.servers, V1_2, V1_2, WEAKER)
    assert handshake(up, "old", weaker)[1] == WEAKER
    with pytest.raises(ssl.SSLError):
        handshake(up, "strong", weaker)
    assert handshake(up, "strong", limited(authorities.servers, V1_2, V1_2, f"{WEAKER}:{STRONG}"))[1] == STRONG


@enforces("Secret.data")
def test_renewed_secret_is_served_without_a_restart(up: Up, authorities: Authorities) -> None:
    """And a Secret that cannot be read leaves the one before it in force."""
    trusted = authorities.servers.trusted()
    name = "late"

    def write(credential: Manifest) -> None:
        extra = gateway("late", https(name), selector={"app": "edge"})
        bound = routes("late", [named(name)], {"route": [to("web")]}, gateways=["late"])
        up.write("late.yaml", dump(extra, bound, credential))

    def served() -> bytes | None:
        try:
            return handshake(up, name, trusted)[2]
        except (ssl.SSLError, OSError):
            return None

    certificates = []
    for _ in range(2):
        pair = authorities.servers.certify(named(name))
        write(secret(name, type="kubernetes.io/tls", data=tls_data(pair)))
        certificates.append(ssl.PEM_cert_to_DER_cert(pair.certificate.decode()))
        eventually(lambda: served() == certificates[-1])
    broken = {key: value.replace("L", "!") for key, value in encoded(tls_data(pair)).items()}
    before = len(up.output)
    write({**secret(name, type="kubernetes.io/tls"), "data": broken})
    eventually(lambda: "ISM2005" in up.output[before:])
    assert served() == certificates[-1]
    assert "PRIVATE KEY" not in up.output
