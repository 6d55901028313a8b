"""Peers of the tests' own making: certificates from the state's authority, and one request on one connection."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from isthmus.jwks.signing import mint
from isthmus.jwks.store import load_signing_key
from tests.real.up import Up, eventually

MESH_ALPN = ("istio-http/1.1",)
"""What a PERMISSIVE port tells a proxy's TLS from a program's own by."""
_SECONDS = 30.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs whatever it is asked to. ``chain``: its certificate, then those between it and the root."""

    chain: tuple[x509.Certificate, ...]
    key: Any
    folder: Path
    """Where the files that Python's TLS needs are written."""

    @classmethod
    def of(cls, up: Up, folder: Path) -> Issuer:
        """The mesh's own intermediate, as who steals its key has it."""
        ca = up.state / "ca"
        chain = x509.load_pem_x509_certificates((ca / "intermediate.pem").read_bytes())
        return cls(tuple(chain), load_pem_private_key((ca / "intermediate.key").read_bytes(), None), folder)

    @classmethod
    def new(cls, folder: Path, subject: x509.Name | None = None) -> Issuer:
        """An authority that nobody here knows."""
        key = new_key()
        name = subject or x509.Name([])
        builder = _builder(name, name, key.public_key(), timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return cls((builder.sign(key, hashes.SHA256()),), key, folder)

    def certificate(self, *uris: str, ca: bool = False, lasts: timedelta = timedelta(hours=1)) -> Path:
        """A file with a chain and its key; a negative ``lasts``: it has ended."""
        key = new_key()
        builder = _builder(x509.Name([]), self.chain[0].subject, key.public_key(), lasts)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        usage = x509.KeyUsage(True, False, False, False, False, ca, False, False, False)
        builder = builder.add_extension(usage, critical=True)
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            builder = builder.add_extension(names, critical=True)
        made = (builder.sign(self.key, hashes.SHA256()), *self.chain)
        file = self.folder / f"{uuid.uuid4().hex}.pem"
        file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in made) + pem(key))
        return file


def _builder(subject: x509.Name, issuer: x509.Name, public: Any, lasts: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=2))
        .not_valid_after(now + lasts)
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: the connection was refused or closed before any answer; ``body`` says how."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    request_id: str = ""

    @property
    def saw(self) -> dict[str, Any]:
        """What the backend saw."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def seen(self, name: str) -> str | None:
        """A header, as the backend saw it."""
        values = [value for key, value in self.saw["headers"] if key == name.lower()]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``certificate`` None: plaintext."""

    path: str = "/"
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    certificate: Path | None = None
    alpn: tuple[str, ...] = MESH_ALPN
    sni: str | None = None
    source: str = "127.0.0.1"


def send(address: str, ask: Ask, root: Path | str | None = None) -> Answer:
    """Send ``ask`` to ``host:port``. ``root``: whom the server must be certified by; None: by anybody."""
    host, _, port = address.rpartition(":")
    request_id = str(uuid.uuid4())
    try:
        raw = socket.create_connection((host, int(port)), _SECONDS, source_address=(ask.source, 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with raw, _secured(raw, ask, root) as connected:
            connection = http.client.HTTPConnection(host, int(port))
            connection.sock = connected
            headers = {"host": "target.example.com", "x-request-id": request_id, **ask.headers}
            connection.request(ask.method, ask.path, body=ask.body or None, headers=headers)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read().decode(), request_id)
    except (OSError, http.client.HTTPException) as failed:
        return Answer(0, {}, repr(failed), request_id)


def _secured(raw: socket.socket, ask: Ask, root: Path | str | None) -> socket.socket:
    if ask.certificate is None:
        return raw
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if root is None else ssl.CERT_REQUIRED
    if root is not None:
        context.load_verify_locations(root)
    context.set_alpn_protocols(list(ask.alpn))
    context.load_cert_chain(ask.certificate)
    return context.wrap_socket(raw, server_hostname=ask.sni)


def inbound(up: Up, workload: str, port: int) -> str:
    """Where the sidecar of ``workload`` takes connections for ``port``."""
    address: str = up.workload(workload)["inbound"][str(port)]
    return address


def bearer(up: Up, issuer: str, subject: str = "alice", audiences: tuple[str, ...] = (), **claims: object) -> str:
    """A token by the state's development key."""
    return mint(
        load_signing_key(up.state / "tokens"),
        issuer=issuer,
        subject=subject,
        audiences=audiences,
        claims=claims,
        expires_in=timedelta(hours=1),
        now=datetime.now(UTC),
    )


def logged(up: Up, proxy_id: str, answer: Answer) -> dict[str, Any]:
    """The access log line of one request."""
    found: dict[str, Any] = eventually(
        lambda: next((line for line in up.access_log(proxy_id) if line.get("request_id") == answer.request_id), None)
    )
    return found
