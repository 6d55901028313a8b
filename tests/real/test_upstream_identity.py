"""What a program learns of a client's certificate: by headers that nobody but the gateway sets."""

from __future__ import annotations

import re
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from tests.real.backend import Backend, header
from tests.real.fields import enforces
from tests.real.http2 import H2Client
from tests.real.pki import Authority, Leaf
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up

pytestmark = pytest.mark.real

HEADERS = "ClientTrafficPolicy.spec.headers."
XFCC = "x-forwarded-client-cert"
FORGED = "By=spiffe://cluster.local/ns/shop/sa/forged;Hash=00;URI=spiffe://cluster.local/ns/shop/sa/admin"
CORS = {"origin": "https://site.example.com", "access-control-request-method": "GET"}
NAMES = {
    "usual": None,
    "little": {"xForwardedClientCert": {"certDetailsToAdd": ["URI"]}},
    "chain": {"xForwardedClientCert": {"mode": "SanitizeSet", "certDetailsToAdd": ["Chain", "Subject", "DNS", "Cert"]}},
    "none": {"xForwardedClientCert": {"mode": "Sanitize"}, "clientCertificate": {}},
    "named": {"clientCertificate": {"name": "X-Peer-Cert"}},
    "optional": {"clientCertificate": {}},
}


def host(name: str) -> str:
    return f"{name}.example.com"


def policy(name: str, headers: Manifest) -> Manifest:
    spec = {"targetRefs": [{"kind": "Gateway", "name": "edge", "sectionName": name}], "headers": headers}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "isthmus.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": metadata, "spec": spec}


def https(name: str) -> Manifest:
    mode = "OPTIONAL_MUTUAL" if name == "optional" else "MUTUAL"
    tls = {"mode": mode, "credentialName": "all"}
    return server(443, host(name), protocol="HTTPS", name=name, tls=tls)


def outside(port: int) -> Manifest:
    return {
        "hosts": ["plain.example.net"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}],
    }


def manifests(servers: Authority, clients: Authority, port: int, folder: Path) -> str:
    leaf = servers.issue("*.example.com")
    data = {"tls.crt": leaf.chain, "tls.key": leaf.key, "ca.crt": clients.pem}
    allowed = {"allowOrigins": [{"exact": "https://other.example.com"}], "allowMethods": ["GET"]}
    return dump(
        gateway("edge", *map(https, NAMES), server(80, "*.example.com")),
        secret("all", type="kubernetes.io/tls", data=data),
        *(policy(name, headers) for name, headers in NAMES.items() if headers is not None),
        routes(
            "all",
            ["*.example.com"],
            {"match": [{"uri": {"prefix": "/plain"}}], "route": [to("plain.example.net", 80)]},
            {"match": [{"uri": {"prefix": "/unproven"}}], "route": [to("unproven", 80)]},
            {"route": [to("web")], "corsPolicy": allowed},
            gateways=["edge"],
        ),
        service("web"),
        workload("web", port, {"app": "web"}),
        manifest("PeerAuthentication", "default", {"mtls": {"mode": "PERMISSIVE"}}),
        # The program itself, past its sidecar; and by its sidecar, but in plaintext.
        manifest("ServiceEntry", "plain", outside(port)),
        service("unproven", selector={"app": "web"}),
        manifest("DestinationRule", "plain", {"host": "unproven", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
        caller("front", folder),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("identity")


@pytest.fixture(scope="module")
def servers() -> Authority:
    return Authority("servers")


@pytest.fixture(scope="module")
def clients() -> Authority:
    return Authority("clients")


@pytest.fixture(scope="module")
def alice(clients: Authority) -> Leaf:
    issuer = clients.intermediate("clients 2")
    return issuer.issue("spiffe://partners.example/alice", "alice.partners.example", common_name="alice")


@pytest.fixture(scope="module")
def trust(servers: Authority, alice: Leaf, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=servers.pem.decode())
    context.load_cert_chain(alice.written(folder, "alice"))
    return context


@pytest.fixture(scope="module")
def up(folder: Path, servers: Authority, clients: Authority) -> Iterator[Up]:
    with Backend() as backend, Up(folder, {"all.yaml": manifests(servers, clients, backend.port, folder)}) as running:
        yield running


def seen(up: Up, name: str, context: ssl.SSLContext, headers: object = None, method: str = "GET") -> dict[str, object]:
    """What the program saw of a request."""
    with httpx.Client(verify=context, trust_env=False, timeout=20) as client:
        answer = up.send(client, method, f"https://{host(name)}/", headers=headers or {})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def elements(saw: dict[str, object]) -> list[dict[str, str]]:
    """``x-forwarded-client-cert``, one entry for each hop, the gateway's first."""
    value = header(saw, XFCC) or ""
    parts = re.findall(r'(?:[^,"]|"(?:\\.|[^"])*")+', value)
    pairs = [re.findall(r'(\w+)=((?:[^;"]|"(?:\\.|[^"])*")*)', part) for part in parts]
    return [{key: text.strip('"') for key, text in found} for found in pairs]


def test_the_gateway_tells_whose_certificate_it_was(up: Up, trust: ssl.SSLContext, alice: Leaf) -> None:
    edge, sidecar = elements(seen(up, "usual", trust))
    assert edge["Hash"] == alice.hash
    assert edge["URI"] == "spiffe://partners.example/alice"
    assert edge["DNS"] == "alice.partners.example"
    assert "CN=alice" in edge["Subject"]
    assert x509.load_pem_x509_certificate(urllib.parse.unquote(edge["Cert"]).encode()) == alice.certificate
    assert sidecar["By"].endswith("/sa/default"), "of the program's own sidecar"
    assert sidecar["URI"] == "spiffe://cluster.local/ns/shop/sa/edge", "who came to it"


GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "what-the-upstream-sees.md"


def test_the_guides_program_knows_the_client_and_believes_nobody_else(
    up: Up, folder: Path, trust: ssl.SSLContext, alice: Leaf
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    guide: dict[str, Any] = {}
    exec(code, guide)
    client_of, certificate_of = guide["client_of"], guide["certificate_of"]

    def headers(saw: Any) -> dict[str, str]:
        return dict(saw["headers"])

    known = client_of(headers(seen(up, "usual", trust)))
    assert (known["URI"], known["Hash"]) == ("spiffe://partners.example/alice", alice.hash)
    assert known["Subject"] == "CN=alice"
    pem = certificate_of(headers(seen(up, "optional", trust)))
    assert x509.load_pem_x509_certificate(pem.encode()) == alice.certificate
    by_workload = headers(Caller("front", folder).get("http://web.shop.svc.cluster.local/").json())
    assert client_of(by_workload) is None
    assert client_of({"x-forwarded-client-cert": FORGED}) is None
    assert certificate_of({**by_workload, "x-client-cert": "forged"}) is None


@enforces(HEADERS + "xForwardedClientCert.certDetailsToAdd", HEADERS + "xForwardedClientCert.mode")
def test_no_more_is_told_than_was_asked_for(up: Up, trust: ssl.SSLContext, alice: Leaf) -> None:
    little = elements(seen(up, "little", trust))[0]
    assert set(little) == {"Hash", "URI"}
    chain = elements(seen(up, "chain", trust))[0]
    assert set(chain) == {"Hash", "Chain", "Subject", "DNS", "Cert"}
    assert urllib.parse.unquote(chain["Chain"]).encode() == alice.chain


@enforces(HEADERS + "xForwardedClientCert.mode", HEADERS + "clientCertificate.name")
def test_the_whole_certificate_in_a_header_of_its_own(up: Up, trust: ssl.SSLContext, alice: Leaf) -> None:
    for name, wanted in {"none": "x-client-cert", "named": "x-peer-cert"}.items():
        saw = seen(up, name, trust)
        pem = urllib.parse.unquote(header(saw, wanted) or "").encode()
        assert x509.load_pem_x509_certificate(pem) == alice.certificate
    only_sidecar = elements(seen(up, "none", trust))
    assert [found["URI"] for found in only_sidecar] == ["spiffe://cluster.local/ns/shop/sa/edge"]
    assert header(seen(up, "usual", trust), "x-client-cert") is None


FORGERIES = [
    {XFCC: FORGED, "x-client-cert": "forged", "x-peer-cert": "forged"},
    [(XFCC, FORGED), (XFCC, FORGED), ("x-peer-cert", "forged"), ("x-peer-cert", "forged"), ("x-client-cert", "forged")],
    {XFCC.upper(): FORGED, "X-PEER-CERT": "forged", "X-Client-Cert": "forged"},
]


@enforces(HEADERS + "clientCertificate.name", HEADERS + "xForwardedClientCert.mode")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("forged", FORGERIES)
def test_what_clients_write_there_never_arrives(up: Up, trust: ssl.SSLContext, name: str, forged: object) -> None:
    """On no server, whichever of the headers that one sets; nor on a CORS preflight that goes through."""
    for extra, method in (([], "GET"), (list(CORS.items()), "OPTIONS")):
        pairs = [*(forged.items() if isinstance(forged, dict) else list(forged)), *extra]  # type: ignore[call-overload]
        saw = seen(up, name, trust, pairs, method)
        assert "forged" not in str(saw["headers"])
        assert "sa/admin" not in str(saw["headers"])
        assert saw["method"] == method


def test_nor_does_it_in_plaintext_or_over_http2(up: Up, trust: ssl.SSLContext) -> None:
    answer = up.get("http://any.example.com/", headers={XFCC: FORGED, "x-peer-cert": "forged"})
    assert "forged" not in answer.text
    with H2Client(up.gateway(443), trust, host("named")) as client:
        status, body = client.get(host("named"), **{XFCC: FORGED, "x-peer-cert": "forged"})
    assert status == 200
    assert b"forged" not in body
    for name in ("x_peer_cert", "x-peer_cert", "x_forwarded_client_cert", "X_Client_Cert"):
        with httpx.Client(verify=trust, trust_env=False, timeout=30) as one:
            refused = up.send(one, "GET", f"https://{host('named')}/", headers={name: "forged"})
        assert refused.status_code == 400, "underscores are refused at the edge"


@enforces(HEADERS + "clientCertificate.name")
def test_without_a_certificate_there_is_no_header(up: Up, servers: Authority, trust: ssl.SSLContext) -> None:
    nobody = ssl.create_default_context(cadata=servers.pem.decode())
    saw = seen(up, "optional", nobody, {"x-client-cert": "forged"})
    assert header(saw, "x-client-cert") is None
    assert header(seen(up, "optional", trust), "x-client-cert") is not None


def test_plaintext_to_the_program_tells_the_same(up: Up, trust: ssl.SSLContext, alice: Leaf) -> None:
    """Without a sidecar's proof: a program must then know by other means that it is the gateway that calls.

    A sidecar that is called in plaintext does not know, and passes nothing on.
    """
    with httpx.Client(verify=trust, trust_env=False, timeout=20) as client:
        direct = up.send(client, "GET", f"https://{host('usual')}/plain", headers={XFCC: FORGED}).json()
        unproven = up.send(client, "GET", f"https://{host('usual')}/unproven").json()
    (only,) = elements(direct)
    assert only["Hash"] == alice.hash
    assert header(unproven, XFCC) is None


def test_a_workload_cannot_say_whose_certificate_it_was(up: Up, folder: Path) -> None:
    """Its own sidecar takes away what it says, and the other's tells who it is."""
    front = Caller("front", folder)
    saw = front.get(
        "http://web.shop.svc.cluster.local/", headers={XFCC: FORGED, "x-peer-cert": "forged", "x_client_cert": "forged"}
    ).json()
    assert [found["URI"] for found in elements(saw)] == ["spiffe://cluster.local/ns/shop/sa/default"]
    assert "forged" not in str(saw["headers"])
    direct = up.workload("web")["inbound"]
    with httpx.Client(trust_env=False, timeout=30, verify=False) as client:
        (address,) = direct.values()
        written = {XFCC: FORGED, "x-peer-cert": "forged", "X-Client-Cert": "forged", "x_client-cert": "forged"}
        plain = client.get(f"http://{address}/", headers=written).json()
    assert header(plain, XFCC) is None, "in plaintext nobody is known"
    assert "forged" not in str(plain["headers"])
