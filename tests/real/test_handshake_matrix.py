"""Every sort of client certificate, at every sort of listener that asks for one, in every version of TLS."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.real.backend import Backend
from tests.real.edge import SERVERS, asking, named, pem, validating, world
from tests.real.fields_peer import MESH_ALPN
from tests.real.handshaking import answered, context
from tests.real.pki import Authority, Flaw, Leaf, self_signed
from tests.real.revocation_server import RevocationServer, answered_at
from tests.real.traffic import manifest, service, workload
from tests.real.up import Up, eventually, whole_lines

pytestmark = pytest.mark.real

LISTENERS = ("MUTUAL", "OPTIONAL_MUTUAL", "STRICT", "PERMISSIVE")
VERSIONS = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
OLD = {ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1}
IN = "accepted"
OUTCOMES: Mapping[str, tuple[str, str, str, str]] = {
    "right": (IN, IN, IN, IN),
    # OPTIONAL_MUTUAL takes who shows nothing as nobody; PERMISSIVE does so in plaintext, never in the mesh's TLS.
    "no": ("tls-no-client-certificate", IN, "tls-no-client-certificate", "tls-no-client-certificate"),
    "self-signed": ("tls-unknown-ca",) * 4,
    "expired": ("tls-certificate-expired",) * 4,
    "not yet valid": ("tls-certificate-not-yet-valid",) * 4,
    "revoked by CRL": ("tls-revoked", "tls-revoked", "403", "403"),
    # In the mesh nobody is asked: what its authority revokes is in its own list.
    "revoked by OCSP": ("ocsp_revoked", "ocsp_revoked", IN, IN),
    "wrong CA": ("tls-unknown-ca",) * 4,
    # Without a word about names, whoever the CA signs for is let in, as that somebody.
    "other trust domain": ("tls-san-mismatch", IN, "tls-san-mismatch", "tls-san-mismatch"),
    "CA leaf": ("tls-ca-certificate",) * 4,
    "wrong EKU": ("tls-wrong-purpose",) * 4,
    "two URI SANs": ("tls-ambiguous-peer",) * 4,
}
"""What happens at each of LISTENERS in TLS 1.2 and 1.3; what is older is refused everywhere, whoever asks."""
HOME, ELSEWHERE = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://elsewhere.example/ns/shop/sa/web"
REVOKED = "spiffe://cluster.local/ns/shop/sa/revoked"
NAMES = {"right": IN, "no": "tls-no-client-certificate", "other trust domain": "tls-san-mismatch"}
_SECONDS = 90.0
_SOURCES = iter(f"127.0.{third}.{fourth}" for third in (3, 4) for fourth in range(1, 255))


@dataclass(frozen=True)
class Place:
    """A listener, and what a client has to know and to show."""

    at: tuple[str, int]
    name: str
    trusted: bytes
    leaves: Mapping[str, Leaf | None]
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Doors:
    up: Up
    folder: Path
    places: Mapping[str, Place]

    def failure(self, source: str) -> dict[str, Any] | None:
        """The line of the log about the handshake from ``source``."""
        log = self.up.state / "log" / "handshakes.log"
        lines = [json.loads(line) for line in whole_lines(log)] if log.exists() else []
        return next((line for line in lines if line["peer_address"] == source), None)

    def refusal(self, source: str) -> str | None:
        """Of a client whose certificate the network filter behind the handshake asked about: what the agent says."""
        found = re.search(rf"client certificate refused: reason=(\w+) .* peer {source}:", self.up.output)
        return found[1] if found else None

    def reason(self, source: str) -> str | None:
        failed = self.failure(source)
        return self.refusal(source) if failed is None else str(failed["reason"])

    def outcome(self, listener: str, certificate: str, version: ssl.TLSVersion) -> str:
        place, source = self.places[listener], next(_SOURCES)
        client = context(place.trusted, place.leaves[certificate], self.folder, version)
        client.minimum_version = version
        if place.alpn:
            # A sidecar's name is its SPIFFE ID, which Python's TLS does not look at.
            client.verify_mode = ssl.CERT_NONE
            client.set_alpn_protocols(list(place.alpn))
        status = answered(place.at, client, place.name, source)
        if status is not None:
            return IN if status == 200 else str(status)
        return str(eventually(lambda: self.reason(source), _SECONDS))


def leaves(
    authority: Authority, names: Mapping[str, str], ocsp: str, of_crl: Leaf, of_ocsp: Leaf
) -> dict[str, Leaf | None]:
    """A certificate of each sort. ``names``: ``home``, ``elsewhere`` and ``uri``."""
    here, asked = names["home"], [answered_at(ocsp)]
    return {
        "right": authority.issue(here, extensions=asked),
        "no": None,
        "self-signed": self_signed(here),
        "expired": authority.issue(here, flaw=Flaw.EXPIRED, extensions=asked),
        "not yet valid": authority.issue(here, flaw=Flaw.NOT_YET_VALID, extensions=asked),
        "revoked by CRL": of_crl,
        "revoked by OCSP": of_ocsp,
        "wrong CA": Authority("nobody knows it").issue(here, extensions=asked),
        "other trust domain": authority.issue(names["elsewhere"], extensions=asked),
        "CA leaf": authority.issue(here, flaw=Flaw.CA, extensions=asked),
        "wrong EKU": authority.issue(here, flaw=Flaw.WRONG_PURPOSE, extensions=asked),
        "two URI SANs": authority.issue(names["uri"], flaw=Flaw.TWO_URIS, extensions=asked),
    }


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("matrix")
    clients = Authority("clients")
    with RevocationServer(timedelta(hours=1), clients=clients) as server, Backend("web") as web:
        asked = [answered_at(server.url("clients"))]
        of_crl, of_ocsp = (clients.issue(HOME, extensions=asked) for _ in range(2))
        server.revoke(of_ocsp)
        text = world(
            [
                asking("mutual", caCertCredentialName="matrix"),
                asking("optional", "OPTIONAL_MUTUAL", caCertCredentialName="matrix"),
                asking("names", "OPTIONAL_MUTUAL", caCertCredentialName="matrix"),
            ],
            web.port,
            *(
                validating(section, ocsp={"mode": "Required"}, subjectAltNames={"uris": [{"prefix": HOME}]})
                for section in ("mutual", "names")
            ),
            validating("optional", ocsp={"mode": "Required"}),
            pem("matrix", ca_crt=clients.pem, ca_crl=clients.revoke(of_crl)),
            *sidecar("strict", web.port),
            *sidecar("permissive", web.port),
        )
        with Up(folder, {"all.yaml": text}) as up:
            yield Doors(up, folder, places(up, clients, server.url("clients"), of_crl, of_ocsp))


def sidecar(name: str, port: int) -> tuple[Any, ...]:
    selector = {"matchLabels": {"app": name}}
    return (
        service(name),
        workload(f"{name}-1", port, {"app": name}),
        manifest("PeerAuthentication", name, {"selector": selector, "mtls": {"mode": name.upper()}}),
    )


def places(up: Up, clients: Authority, ocsp: str, of_crl: Leaf, of_ocsp: Leaf) -> dict[str, Place]:
    names = {"home": HOME, "elsewhere": ELSEWHERE, "uri": HOME}
    at_edge = leaves(clients, names, ocsp, of_crl, of_ocsp)
    ca = up.state / "ca"
    chain = x509.load_pem_x509_certificates((ca / "intermediate.pem").read_bytes() + (ca / "root.pem").read_bytes())
    key: Any = load_pem_private_key((ca / "intermediate.key").read_bytes(), None)
    mesh = Authority.stolen(chain, key)
    in_mesh = leaves(mesh, names, ocsp, mesh.issue(REVOKED), mesh.issue(HOME, extensions=[answered_at(ocsp)]))
    revoke(up, REVOKED)
    found = {
        mode: Place(up.gateway(443), named(host), SERVERS.pem, at_edge)
        for mode, host in (("MUTUAL", "mutual"), ("OPTIONAL_MUTUAL", "optional"), ("names", "names"))
    }
    for mode in ("STRICT", "PERMISSIVE"):
        host, _, port = next(iter(up.workload(f"{mode.lower()}-1")["inbound"].values())).rpartition(":")
        found[mode] = Place((host, int(port)), f"{mode.lower()}.shop", mesh.root.pem, in_mesh, MESH_ALPN)
    return found


def revoke(up: Up, identity: str) -> None:
    socket = str((up.state / "run").readlink() / "api.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=_SECONDS) as api:
        assert api.post("http://api/v1/ca/revoke", json={"spiffe_id": identity, "take_back": False}).status_code == 200


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("certificate", OUTCOMES)
def test_who_gets_in_and_why_not(doors: Doors, certificate: str, listener: str) -> None:
    expected = OUTCOMES[certificate][LISTENERS.index(listener)]
    found = {version: doors.outcome(listener, certificate, version) for version in VERSIONS}
    assert found == {version: "tls-protocol-version" if version in OLD else expected for version in VERSIONS}


def test_in_plaintext_only_a_permissive_port_answers(doors: Doors) -> None:
    def plaintext(listener: str) -> int | None:
        host, port = doors.places[listener].at
        try:
            return httpx.get(f"http://{host}:{port}/", trust_env=False, verify=False, timeout=_SECONDS).status_code
        except httpx.TransportError:
            return None

    assert [plaintext(listener) for listener in LISTENERS] == [None, None, None, 200]


def test_where_names_are_asked_for_nobody_is_without(doors: Doors) -> None:
    """OPTIONAL_MUTUAL with names: Envoy demands a certificate that can have one."""
    found = {certificate: doors.outcome("names", certificate, ssl.TLSVersion.TLSv1_3) for certificate in NAMES}
    assert found == NAMES
