"""Clients' certificates at a gateway: who gets in by the Gateway's own fields, on real Envoys."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from tests.real.backend import Backend, header
from tests.real.edge import (
    INTERMEDIATE,
    REFUSED,
    ROOT,
    SERVERS,
    STRANGERS,
    Clients,
    asking,
    named,
    pem,
    world,
)
from tests.real.fields import enforces
from tests.real.pki import Flaw, Leaf, rsa_key, self_signed
from tests.real.traffic import Caller, caller, manifest
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

TLS = "Gateway.spec.servers[].tls."
NAME = "billing.internal.corp"
SPIFFE_ID = "spiffe://corp.example/billing"
GOOD = ROOT.issue(NAME, SPIFFE_ID)
OTHER = ROOT.issue("orders.internal.corp")
REVOKED = ROOT.issue(NAME)
BELOW = INTERMEDIATE.issue(NAME)
BELOW_REVOKED = INTERMEDIATE.issue(NAME)
FLAWED = {flaw.name: ROOT.issue(SPIFFE_ID if flaw is Flaw.TWO_URIS else NAME, flaw=flaw) for flaw in Flaw}
BAD: dict[str, Leaf | None] = {
    "stranger's": STRANGERS.issue(NAME),
    "self-signed": self_signed(NAME),
    "the CA's own": Leaf(ROOT.certificate, (), ROOT.private),
    "an intermediate's own": Leaf(INTERMEDIATE.certificate, (), INTERMEDIATE.private),
    "the server's": SERVERS.issue(NAME),
    "of any purpose but a client's": ROOT.issue(NAME, purposes=(x509.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
    **{name: leaf for name, leaf in FLAWED.items() if name != "COMMON_NAME_ONLY"},
}
SANS = [NAME, "spiffe://corp.example/a", "me@corp.example", "10.0.0.1", "*.wild.corp"]


class Files:
    """Certificates in files, as Kubernetes and cert-manager mount them: behind a link that is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0

    def path(self, name: str) -> str:
        return str(self.folder / "mounted" / name)

    def swap(self, **content: bytes) -> None:
        """All files at once, by one rename of the link ``..data``."""
        self._versions += 1
        version = self.folder / "mounted" / f"..version-{self._versions}"
        version.mkdir(parents=True)
        for name, value in content.items():
            (version / name.replace("_", ".")).write_bytes(value)
            link = self.folder / "mounted" / name.replace("_", ".")
            if not link.is_symlink():
                link.symlink_to(Path("..data") / link.name)
        new = self.folder / "mounted" / "..data_new"
        new.symlink_to(version.name)
        new.rename(self.folder / "mounted" / "..data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edge")


@pytest.fixture(scope="module")
def files(folder: Path) -> Files:
    found = Files(folder)
    leaf = SERVERS.issue("*.example.com")
    found.swap(tls_crt=leaf.chain, tls_key=leaf.key, ca_crt=ROOT.pem, ca_crl=ROOT.revoke(REVOKED))
    return found


@pytest.fixture(scope="module")
def up(folder: Path, files: Files) -> Iterator[Up]:
    port = free_port()
    ecdsa, rsa = SERVERS.issue("*.example.com"), SERVERS.issue("*.example.com", key=rsa_key())
    of_files = {"serverCertificate": files.path("tls.crt"), "privateKey": files.path("tls.key")}
    written = {"ecdsa.crt": ecdsa.chain, "ecdsa.key": ecdsa.key, "rsa.crt": rsa.chain, "rsa.key": rsa.key}
    for name, value in written.items():
        (folder / name).write_bytes(value)
    pairs = [
        {"serverCertificate": str(folder / f"{kind}.crt"), "privateKey": str(folder / f"{kind}.key")}
        for kind in ("ecdsa", "rsa")
    ]
    servers = [
        asking("mutual"),
        asking("simple", "SIMPLE"),
        asking("optional", "OPTIONAL_MUTUAL"),
        asking("peers", "ISTIO_MUTUAL"),
        asking("sans", subjectAltNames=SANS),
        asking("spki", verifyCertificateSpki=[GOOD.spki]),
        asking("hash", verifyCertificateHash=[GOOD.hash]),
        asking("either", verifyCertificateHash=[GOOD.hash], verifyCertificateSpki=[BELOW.spki]),
        asking("file", **of_files, caCertificates=files.path("ca.crt")),
        asking("file-crl", **of_files, caCertificates=files.path("ca.crt"), caCrl=files.path("ca.crl")),
        asking("no-file", "SIMPLE", serverCertificate="/nowhere/tls.crt", privateKey="/nowhere/tls.key"),
        asking("apart", caCertCredentialName="strangers"),
        asking("apart-missing", caCertCredentialName="nothing"),
        asking("secret-crl", caCertCredentialName="with-lists"),
        asking("overdue", caCertCredentialName="overdue"),
        asking("other-list", caCertCredentialName="other-list"),
        asking("both", "SIMPLE", credentialNames=["ecdsa", "rsa"]),
        asking("both-files", "SIMPLE", tlsCertificates=pairs),
    ]
    secrets = [
        pem("strangers", cacert=STRANGERS.pem),
        pem("with-lists", ca_crt=ROOT.pem, ca_crl=ROOT.revoke(REVOKED) + INTERMEDIATE.revoke(BELOW_REVOKED)),
        pem("overdue", ca_crt=ROOT.pem, ca_crl=ROOT.revoke(ended=True)),
        pem("other-list", ca_crt=ROOT.pem, crl=STRANGERS.revoke()),
        pem("ecdsa", tls_crt=ecdsa.chain, tls_key=ecdsa.key),
        pem("rsa", tls_crt=rsa.chain, tls_key=rsa.key),
    ]
    inside = [
        caller("front", folder, serviceAccount="front"),
        manifest(
            "ServiceEntry",
            "peers",
            {
                "hosts": [named("peers")],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}],
            },
        ),
        manifest(
            "DestinationRule",
            "peers",
            {
                "host": named("peers"),
                "trafficPolicy": {
                    "tls": {
                        "mode": "ISTIO_MUTUAL",
                        "sni": named("peers"),
                        "subjectAltNames": ["spiffe://cluster.local/ns/shop/sa/edge"],
                    }
                },
            },
        ),
    ]
    with Backend() as backend:
        text = world(servers, backend.port, *secrets, *inside)
        with Up(folder, {"all.yaml": text}, "-p", f"{port}:443") as running:
            yield running


@pytest.fixture(scope="module")
def clients(up: Up, folder: Path) -> Clients:
    found = Clients(up, folder)
    # Envoy waits 5 seconds for the certificate of "no-file", which never comes, before it opens the port.
    eventually(lambda: found.status("mutual", GOOD) == 200, 30)
    return found


@enforces(TLS + "mode")
def test_mutual_lets_in_good_certificates_and_no_others(clients: Clients) -> None:
    good = {"leaf": GOOD, "by an intermediate": BELOW, "without a SAN": FLAWED["COMMON_NAME_ONLY"]}
    assert clients.refused("mutual", {**good, **BAD, "none": None}) == {*BAD, "none"}


@enforces(TLS + "mode")
def test_optional_lets_in_who_has_none_as_nobody(clients: Clients) -> None:
    """What is shown is verified all the same; without a certificate there is no identity, nor with SIMPLE."""
    assert clients.refused("optional", {"good": GOOD, "none": None, **BAD}) == set(BAD)
    for leaf, identity in ((GOOD, SPIFFE_ID), (None, None)):
        answer = clients.send("optional", leaf)
        assert answer is not None
        seen = header(answer.json(), "x-forwarded-client-cert")
        assert (identity in seen) if identity is not None and seen is not None else "corp" not in (seen or "")
    unasked = clients.send("simple", GOOD)
    assert unasked is not None
    assert "corp" not in (header(unasked.json(), "x-forwarded-client-cert") or "")


@enforces(TLS + "mode")
def test_istio_mutual_is_for_peers_of_the_mesh(clients: Clients, folder: Path, up: Up) -> None:
    """The gateway shows its own SVID there, and takes those of the mesh alone."""
    front = Caller("front", folder)
    answer = front.get(f"http://{named('peers')}/")
    assert answer.status_code == 200, up.output
    assert "spiffe://cluster.local/ns/shop/sa/front" in (header(answer.json(), "x-forwarded-client-cert") or "")
    context = up.trust()
    context.check_hostname = False
    assert clients.send("peers", None, context) is None
    context.load_cert_chain(GOOD.written(folder, "good-at-peers"))
    assert clients.send("peers", None, context) is None


@enforces(TLS + "subjectAltNames")
def test_one_of_the_names_must_be_the_certificates(clients: Clients) -> None:
    """As it is written, of any type; the CN is none, and a wildcard certificate is not every host."""
    good = {name: ROOT.issue(name) for name in SANS} | {"upper": ROOT.issue(NAME.upper())}
    bad = {
        "other": OTHER,
        "wildcard certificate": ROOT.issue("*.internal.corp"),
        "a host of a wildcard": ROOT.issue("a.wild.corp"),
        "CN only": FLAWED["COMMON_NAME_ONLY"],
        "longer": ROOT.issue(f"x{NAME}", f"{NAME}.evil.example", "spiffe://corp.example/ab"),
        "other address": ROOT.issue("10.0.0.11"),
    }
    assert clients.refused("sans", {**good, **bad}) == bad.keys()


@pytest.mark.parametrize(
    ("name", "let_in"),
    [
        pytest.param("spki", {"good"}, marks=enforces(TLS + "verifyCertificateSpki")),
        pytest.param("hash", {"good"}, marks=enforces(TLS + "verifyCertificateHash")),
        pytest.param("either", {"good", "below"}, marks=enforces(TLS + "verifyCertificateSpki")),
    ],
)
def test_pins(clients: Clients, name: str, let_in: set[str]) -> None:
    shown = {"good": GOOD, "below": BELOW, "other": OTHER, "none": None}
    assert shown.keys() - clients.refused(name, shown) == let_in


@enforces(TLS + "caCertCredentialName")
def test_cas_of_a_secret_of_their_own(clients: Clients, up: Up) -> None:
    strange = STRANGERS.issue(NAME)
    assert clients.refused("apart", {"stranger's": strange, "good": GOOD, "none": None}) == {"good", "none"}
    assert clients.refused("apart-missing", {"stranger's": strange, "good": GOOD}) == {"stranger's", "good"}
    assert 'no Secret "nothing" has a ca.crt' in up.output


@enforces("Secret.data", TLS + "caCertCredentialName")
def test_lists_of_the_secret_revoke(clients: Clients, up: Up) -> None:
    shown = {"good": GOOD, "below": BELOW, "revoked": REVOKED, "below, revoked": BELOW_REVOKED}
    assert clients.refused("secret-crl", shown) == {"revoked", "below, revoked"}
    # An overdue list, and one of another CA, let nobody in; both are said.
    assert clients.refused("overdue", {"good": GOOD}) == {"good"}
    assert clients.refused("other-list", {"good": GOOD}) == {"good"}
    assert {"ISM5061", "ISM2244"} <= {word for line in up.output.splitlines() for word in line.split()}


@enforces(TLS + "caCertificates", TLS + "caCrl", TLS + "serverCertificate", TLS + "privateKey")
def test_certificates_in_files(clients: Clients, files: Files, up: Up) -> None:
    assert clients.refused("file", {"good": GOOD, "none": None, "revoked": REVOKED, **BAD}) == {"none", *BAD}
    assert clients.refused("file-crl", {"good": GOOD, "revoked": REVOKED}) == {"revoked"}
    assert clients.refused("no-file", {"none": None}) == {"none"}
    assert "/nowhere/tls.crt" in up.output
    # All are swapped at once, as Kubernetes does it: another authority, and the good one's certificate is revoked.
    leaf = SERVERS.issue("*.example.com")
    crl = ROOT.revoke(GOOD) + STRANGERS.revoke()
    files.swap(tls_crt=leaf.chain, tls_key=leaf.key, ca_crt=STRANGERS.pem + ROOT.pem, ca_crl=crl)
    strange = STRANGERS.issue(NAME)
    eventually(lambda: clients.refused("file", {"stranger's": strange, "good": GOOD}) == set(), 20)
    shown = {"stranger's": strange, "good": GOOD, "revoked before": REVOKED}
    eventually(lambda: clients.refused("file-crl", shown) == {"good"}, 20)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("both", marks=enforces(TLS + "credentialNames")),
        pytest.param(
            "both-files",
            marks=enforces(TLS + "tlsCertificates[].serverCertificate", TLS + "tlsCertificates[].privateKey"),
        ),
    ],
)
def test_two_certificates_of_different_keys(clients: Clients, name: str) -> None:
    """Each client gets the one that it can verify."""
    found = set()
    for kind in ("ECDSA", "RSA"):
        context = clients.context(None)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        found |= {(one, kind) for one in (name, "simple") if clients.send(one, None, context) is not None}
    assert found == {(name, "ECDSA"), (name, "RSA"), ("simple", "ECDSA")}, "a server with one has no other"


def test_a_refused_client_speaks_no_http(clients: Clients, up: Up) -> None:
    """Nothing that a refused connection sends is in the requests' log."""
    for leaf, status in ((None, REFUSED), (FLAWED["CA"], REFUSED), (GOOD, 200)):
        assert clients.status("mutual", leaf, "/only-here") == status

    def seen() -> list[int]:
        return [line["status"] for line in up.access_log("gateway~shop~edge") if line.get("path") == "/only-here"]

    assert eventually(seen) == [200]


def test_a_connection_for_one_host_is_not_one_for_another(clients: Clients, up: Up) -> None:
    """Whoever got in without a certificate does not reach the host that asks for one, over the same connection."""
    with httpx.Client(verify=clients.context(None), trust_env=False, timeout=20) as client:
        for host, status in (("optional", 200), ("mutual", 421), ("sans", 421)):
            answer = up.send(client, "GET", f"https://{named('optional')}/", headers={"host": named(host)})
            assert answer.status_code == status
