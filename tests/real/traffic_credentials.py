"""Certificates for gateways and their clients, by an authority of the tests' own."""

from __future__ import annotations

import base64
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_HOUR = timedelta(hours=1)
_SIGNING = x509.KeyUsage(True, False, False, False, False, True, True, False, False)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM."""

    certificate: bytes
    key: bytes

    def written(self, folder: Path, name: str) -> Path:
        """A file of both, as Python's TLS reads them."""
        file = folder / f"{name}.pem"
        file.write_bytes(self.certificate + self.key)
        return file


def serving(folder: Path, pair: Pair, clients: bytes = b"") -> ssl.SSLContext:
    """A server with ``pair``; ``clients``: the authority that its clients' certificates must come from."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.written(folder, f"server-{uuid.uuid4().hex}"))
    if clients:
        context.load_verify_locations(cadata=clients.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Authority:
    """Certifies names of servers and clients."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._certificate = builder.add_extension(_SIGNING, critical=True).sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(Encoding.PEM)

    def certify(self, *names: str, ended: bool = False) -> Pair:
        """A certificate of these names. ``ended``: its time was over an hour ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(names[0]), key.public_key(), -_HOUR if ended else _HOUR)
        wanted = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        certificate = builder.add_extension(wanted, critical=False).sign(self._key, hashes.SHA256())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(certificate.public_bytes(Encoding.PEM), pem)

    def trusted(self, own: Path | None = None) -> ssl.SSLContext:
        """A client that trusts this authority; ``own``: its certificate and key."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if own is not None:
            context.load_cert_chain(own)
        return context

    def revoke(self, *pairs: Pair) -> bytes:
        """The list of what this authority has revoked, PEM."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - _HOUR).next_update(now + _HOUR)
        for pair in pairs:
            number = x509.load_pem_x509_certificate(pair.certificate).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - _HOUR).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, left: timedelta = _HOUR
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * _HOUR)
            .not_valid_after(now + left)
        )


def secret(name: str, namespace: str = "shop", **body: Any) -> dict[str, Any]:
    """A Secret; ``data`` is given plain."""
    if "data" in body:
        body["data"] = encoded(body["data"])
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, **body}


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def tls_data(pair: Pair, **more: bytes) -> dict[str, bytes]:
    return {"tls.crt": pair.certificate, "tls.key": pair.key, **more}
