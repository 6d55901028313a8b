from __future__ import annotations

import base64
import json
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.demo.requests import HOST, Places, Try, token_function
from isthmus.demo.run import Sender, fetch_tokens, places, prepare
from isthmus.errors import StateHeld
from isthmus.state import StateDir
from tests.demo.running import Program
from tests.real.up import free_port


def test_prepare_writes_private_manifests(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "state")
    written = sorted(prepared.manifests.iterdir())
    assert [file.suffix for file in written] == [".yaml"] * len(written)
    assert prepared.idp_url in "".join(file.read_text() for file in written)
    key = tmp_path / "state" / "demo" / "identity-provider.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_port_and_key_stay_the_same(tmp_path: Path) -> None:
    first = prepare(tmp_path / "state")
    key = (tmp_path / "state" / "demo" / "identity-provider.pem").read_bytes()
    assert prepare(tmp_path / "state") == first
    assert (tmp_path / "state" / "demo" / "identity-provider.pem").read_bytes() == key


def test_a_port_that_somebody_took_is_given_up(tmp_path: Path) -> None:
    first = prepare(tmp_path / "state")
    with socket.create_server(("127.0.0.1", int(first.idp_url.rpartition(":")[2]))):
        second = prepare(tmp_path / "state")
    assert second.idp_url != first.idp_url
    assert first.idp_url not in "".join(file.read_text() for file in second.manifests.iterdir())


def test_a_running_demo_is_not_disturbed(tmp_path: Path) -> None:
    first = prepare(tmp_path / "state")
    before = {file.name: file.stat().st_mtime_ns for file in first.manifests.iterdir()}
    with StateDir.at(tmp_path / "state").hold("up"), pytest.raises(StateHeld):
        prepare(tmp_path / "state")
    assert {file.name: file.stat().st_mtime_ns for file in first.manifests.iterdir()} == before


def test_places_come_from_the_ready_document(tmp_path: Path) -> None:
    listeners = [
        {"declared_port": 8080, "address": "127.0.0.1:1", "hosts": [HOST]},
        {"declared_port": 8443, "address": "127.0.0.1:2", "hosts": [HOST]},
    ]
    ready = {"state": "/s", "ca_bundle": "/s/ca/root.pem", "gateways": [{"listeners": listeners}]}
    found = places(ready, prepare(tmp_path / "state"))
    assert (found.http, found.https, found.state) == ("127.0.0.1:1", "127.0.0.1:2", Path("/s"))


async def test_tokens_for_everybody() -> None:
    with Program("isthmus.demo.identity_provider") as provider:
        tokens = await fetch_tokens(provider.url)
    assert tokens.keys() == {"alice", "bob", "admin"}
    assert len(set(tokens.values())) == 3


def test_a_token_by_the_shell_function(tmp_path: Path) -> None:
    with Program("isthmus.demo.identity_provider") as provider:
        function = token_function(Places("", "", provider.url, tmp_path, tmp_path))
        said = subprocess.run(["sh", "-c", f"{function}; token bob"], capture_output=True, text=True, check=True).stdout
    payload = said.strip().split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["sub"] == "bob"


class _Gateway(BaseHTTPRequestHandler):
    """Says which host, token and body it saw."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        said = f"{self.headers['host']} {self.headers['authorization']} {self.headers['x-a']} {body}".encode()
        self.send_response(201)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def _certificate(folder: Path) -> Path:
    """Certificate and key for the shop's host, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "gateway.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Places]:
    """A gateway over TLS, for the name of the shop alone."""
    pem = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as gateway:
        gateway.socket = context.wrap_socket(gateway.socket, server_side=True)
        serving = threading.Thread(target=gateway.serve_forever, args=(0.02,))
        serving.start()
        address = f"127.0.0.1:{gateway.server_address[1]}"
        yield Places(address, f"127.0.0.1:{free_port()}", "http://127.0.0.1:1", tmp_path, pem)
        gateway.shutdown()
        serving.join()


async def test_a_request_is_sent_under_the_hosts_name(where: Places) -> None:
    port = where.https.rpartition(":")[2]
    one = Try(
        "t", "/x", 201, "w", method="POST", person="bob", headers=(("x-a", "b"),), body="hello",
        shows=f"{HOST}:{port} Bearer secret b hello",
    )  # fmt: skip
    outcome = await Sender(where, {"bob": "secret"}).send(one)
    assert outcome.problem is None
    assert outcome.status == 201


async def test_what_does_not_answer_is_an_outcome(where: Places) -> None:
    sender = Sender(where, {})
    gone = await sender.send(Try("t", "/x", 301, "w", scheme="http"))
    assert (gone.passed, gone.status) == (False, None)
    assert "ConnectError" in (gone.problem or "")
    nobody = await sender.send(Try("t", "/x", 200, "w", person="bob"))
    assert "no token for bob" in (nobody.problem or "")


async def test_another_name_is_not_trusted(where: Places) -> None:
    outcome = await Sender(where, {}).send(Try("t", "/x", 201, "w", method="POST", host="other.example.com"))
    assert not outcome.passed
    assert "certificate" in (outcome.problem or "").lower()
