"""A revoked identity: refused on standing connections too, connected to no more, and given no certificate."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from isthmus.identity.material import pem_of
from isthmus.identity.store import load_or_create
from isthmus.state import StateDir
from tests.real.backend import Backend
from tests.real.echo import Echo
from tests.real.edge import pem
from tests.real.fields_peer import MESH_ALPN, Issuer, inbound
from tests.real.manifests import service, workload_entry
from tests.real.pki import Authority
from tests.real.traffic import dump
from tests.real.up import Up, eventually, isthmus

pytestmark = pytest.mark.real

WEB = "spiffe://cluster.local/ns/shop/sa/web"
OTHER = "spiffe://cluster.local/ns/shop/sa/other"
APP = "spiffe://cluster.local/ns/shop/sa/app"
_TTL = 40
_LONG = 30.0
MANIFESTS = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: ["*"]
      tls: {mode: MUTUAL, credentialName: door}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app, namespace: shop}
spec:
  hosts: [app.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: app}}], retries: {attempts: 0}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shop, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
"""


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    issuer: Issuer
    http_port: int
    tcp_port: int

    def revoke(self, identity: str, *, take_back: bool = False) -> None:
        socket = str((self.up.state / "run").readlink() / "api.sock")
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), timeout=_LONG) as api:
            body = {"spiffe_id": identity, "take_back": take_back}
            assert api.post("http://api/v1/ca/revoke", json=body).status_code == 200

    def revoke_certificate(self, file: Path, *, take_back: bool = False) -> str:
        """That one alone; its serial number."""
        serial = f"{x509.load_pem_x509_certificate(file.read_bytes()).serial_number:x}"
        options = ("--take-back",) if take_back else ("--reason", "certificateHold")
        ran = isthmus("ca", "revoke", "--serial", str(file), *options, "--state", str(self.up.state))
        assert ran.returncode == 0, ran.stderr
        return serial

    def handshake(self, address: tuple[str, int], certificate: Path, alpn: tuple[str, ...] = MESH_ALPN) -> str:
        """What the server says against it; nothing: it is good. TLS 1.2, whose client hears of it in the handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(list(alpn))
        context.load_cert_chain(certificate)
        try:
            with context.wrap_socket(socket.create_connection(address, _LONG)):
                return ""
        except ssl.SSLError as refused:
            return str(refused.reason)

    def sidecar(self, workload: str, port: int) -> tuple[str, int]:
        host, _, number = inbound(self.up, workload, port).rpartition(":")
        return host, int(number)

    @contextmanager
    def revoked(self, identity: str) -> Iterator[None]:
        self.revoke(identity)
        try:
            yield
        finally:
            self.revoke(identity, take_back=True)

    def connect(self, workload: str, port: int, identity: str, alpn: tuple[str, ...]) -> ssl.SSLSocket:
        """A connection of mutual TLS to a sidecar, as who has this identity."""
        return self.connect_with(workload, port, self.issuer.certificate(identity), alpn)

    def connect_with(self, workload: str, port: int, certificate: Path, alpn: tuple[str, ...]) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(list(alpn))
        context.load_cert_chain(certificate)
        return context.wrap_socket(socket.create_connection(self.sidecar(workload, port), _LONG))

    @contextmanager
    def calling(self, identity: str) -> Iterator[http.client.HTTPConnection]:
        """A standing connection to the app."""
        connection = http.client.HTTPConnection("app.shop")
        connection.sock = self.connect("app-1", self.http_port, identity, MESH_ALPN)
        try:
            yield connection
        finally:
            connection.close()

    def edge(self) -> int:
        with self.up.client() as client:
            return self.up.send(client, "GET", "http://app.example.com/").status_code


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder, others = tmp_path_factory.mktemp("revoke"), tmp_path_factory.mktemp("certificates")
    mesh_root = load_or_create(StateDir.at(folder / "state").open(), "cluster.local", datetime.now(UTC)).root
    door = Authority("door").issue("app.example.com")
    with Backend() as backend, Echo("db") as echo:
        text = "---\n".join(
            (
                MANIFESTS + service("app", "shop"),
                workload_entry("app-1", "shop", "app", backend.port, account="app"),
                dump(pem("door", tls_crt=door.chain, tls_key=door.key, ca_crt=pem_of(mesh_root))),
                service("db", "shop", port_name="tcp"),
                workload_entry("db-1", "shop", "db", echo.port, account="db", port_name="tcp"),
            )
        )
        with Up(folder, {"mesh.yaml": text}, "--svid-ttl", f"{_TTL}s") as up:
            yield Mesh(up, Issuer.of(up, others), backend.port, echo.port)


def test_its_next_request_on_a_standing_connection_is_refused_and_nobody_elses(mesh: Mesh) -> None:
    def refused_there() -> bool:
        """Not closed for its age, which a slow machine could make it reach first."""
        with mesh.calling(WEB) as web, mesh.calling(OTHER) as other:
            assert (ask(web), ask(other)) == (200, 200)
            with mesh.revoked(WEB):
                try:
                    eventually(lambda: ask(web) == 403, seconds=_TTL / 4)
                except OSError:
                    return False
                assert ask(other) == 200
                with mesh.calling(WEB) as again:
                    assert ask(again) == 403
        return True

    assert any(refused_there() for _ in range(3))


def test_taken_back_it_is_good_again(mesh: Mesh) -> None:
    with mesh.revoked(WEB), mesh.calling(WEB) as web:
        eventually(lambda: ask(web) == 403, seconds=_LONG)

    def good() -> bool:
        with mesh.calling(WEB) as web:
            return ask(web) == 200

    eventually(good, seconds=_LONG)


def line(connection: ssl.SSLSocket, word: bytes) -> bytes:
    """What comes back; nothing from a connection that is closed."""
    try:
        connection.sendall(word + b"\n")
        return connection.recv(100)
    except OSError:
        return b""


def closed_after(connection: ssl.SSLSocket, patience: float) -> None:
    """Wait until the other side closes it."""
    connection.settimeout(patience)
    try:
        assert connection.recv(1) == b""
    except TimeoutError:
        raise AssertionError(f"not closed within {patience} s") from None
    except OSError:
        pass


def test_a_plain_connection_that_stands_is_ended_and_a_new_one_gets_nothing(mesh: Mesh) -> None:
    def ended_by_it() -> bool:
        """Not by its age, which a slow machine could make it reach first."""
        with mesh.connect("db-1", mesh.tcp_port, WEB, ("istio",)) as standing:
            address = ":".join(map(str, standing.getsockname()))
            assert line(standing, b"a") == b"db:a\n"
            with mesh.revoked(WEB):
                closed_after(standing, _LONG)
                with (
                    mesh.connect("db-1", mesh.tcp_port, WEB, ("istio",)) as new,
                    mesh.connect("db-1", mesh.tcp_port, OTHER, ("istio",)) as other,
                ):
                    assert line(new, b"b") == b""
                    assert line(other, b"c") == b"db:c\n"
        found = eventually(
            lambda: [one for one in mesh.up.access_log("sidecar~shop~db-1") if one["peer_address"] == address],
            _LONG,
        )
        return found[-1]["response_flags"] != "DT"

    assert any(ended_by_it() for _ in range(3))


def test_callers_connect_to_it_no_more(mesh: Mesh) -> None:
    assert mesh.edge() == 200
    with mesh.revoked(APP):
        eventually(lambda: mesh.edge() == 503, seconds=_LONG)
    eventually(lambda: mesh.edge() == 200, seconds=_LONG)


def test_nothing_is_signed_for_it(mesh: Mesh, tmp_path: Path) -> None:
    arguments = ("ca", "issue", "--spiffe-id", WEB, "--out", str(tmp_path), "--state", str(mesh.up.state))
    with mesh.revoked(WEB):
        ran = isthmus(*arguments)
        assert (ran.returncode, ran.stderr) == (1, f"isthmus: {WEB} was revoked\n")
        told = isthmus("ca", "audit", "--state", str(mesh.up.state))
        assert f"revoked: {WEB} since" in told.stdout
    assert isthmus(*arguments).returncode == 0


def test_a_revoked_certificate_is_refused_in_the_handshake_and_its_identity_is_not(mesh: Mesh) -> None:
    stolen, other = mesh.issuer.certificate(WEB), mesh.issuer.certificate(WEB)
    places = (mesh.sidecar("app-1", mesh.http_port), mesh.sidecar("db-1", mesh.tcp_port), mesh.up.gateway(443))
    assert [mesh.handshake(place, stolen) for place in places] == ["", "", ""]
    serial = mesh.revoke_certificate(stolen)
    try:
        for place in places:
            eventually(lambda at=place: mesh.handshake(at, stolen) == "SSLV3_ALERT_CERTIFICATE_REVOKED", seconds=_LONG)
            assert mesh.handshake(place, other) == ""
        assert mesh.edge() == 200, "who is not on the list calls and is called as before"
        listed = isthmus("ca", "crl", "--show", "--state", str(mesh.up.state)).stdout
        assert re.search(rf"{serial} since .* \(certificateHold\)", listed), listed
        looked = isthmus("ca", "inspect", str(stolen), "--state", str(mesh.up.state))
        assert looked.returncode == 1
        assert "revoked   since" in looked.stdout
    finally:
        mesh.revoke_certificate(stolen, take_back=True)
    eventually(lambda: mesh.handshake(places[0], stolen) == "", seconds=_LONG)


def test_standing_connections_of_a_revoked_certificate_end(mesh: Mesh) -> None:
    stolen = mesh.issuer.certificate(WEB)

    def ended_by_it() -> bool:
        """Not by its age, which a slow machine could make it reach first."""
        with mesh.connect_with("db-1", mesh.tcp_port, stolen, ("istio",)) as standing:
            address = ":".join(map(str, standing.getsockname()))
            assert line(standing, b"a") == b"db:a\n"
            mesh.revoke_certificate(stolen)
            try:
                closed_after(standing, _LONG)
            finally:
                mesh.revoke_certificate(stolen, take_back=True)
        found = eventually(
            lambda: [one for one in mesh.up.access_log("sidecar~shop~db-1") if one["peer_address"] == address],
            _LONG,
        )
        return found[-1]["response_flags"] != "DT"

    assert any(ended_by_it() for _ in range(3))


def test_a_proxy_whose_certificate_is_revoked_gets_another(mesh: Mesh, tmp_path: Path) -> None:
    def shown() -> x509.Certificate:
        with mesh.connect("app-1", mesh.http_port, OTHER, MESH_ALPN) as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")

    before = tmp_path / "before.pem"
    before.write_bytes(pem_of(shown()))
    mesh.revoke_certificate(before)
    serial = x509.load_pem_x509_certificate(before.read_bytes()).serial_number
    eventually(lambda: shown().serial_number != serial and mesh.edge() == 200, seconds=_LONG)
    mesh.revoke_certificate(before, take_back=True)


def test_connections_end_within_a_quarter_of_the_certificates_life(mesh: Mesh) -> None:
    began = time.monotonic()
    with (
        mesh.connect("db-1", mesh.tcp_port, OTHER, ("istio",)) as plain,
        mesh.connect("app-1", mesh.http_port, OTHER, MESH_ALPN) as http_,
    ):
        assert line(plain, b"a") == b"db:a\n"
        http_.sendall(b"GET / HTTP/1.1\r\nhost: app.shop\r\n\r\n")
        assert http_.recv(12) == b"HTTP/1.1 200"
        closed_after(plain, _LONG)
        http_.settimeout(_LONG)
        while http_.recv(4096):
            pass
        # Envoy lets HTTP end for five seconds more; a busy machine is late.
        assert _TTL / 4 - 1 < time.monotonic() - began < _TTL
