"""Certificates and roots in files of this machine, as secrets: read again when the files change.

The agent hands over bytes, not paths: a file that is written in place, half written or swapped by a link is then taken
when it is whole, and never before.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, tls_v3
from isthmus.errors import Unreachable
from isthmus.proxy.sds_stream import ServedSecret
from isthmus.xds.secret import FILE_CERTIFICATE, FILE_ROOTS, SYSTEM

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Red Hat, SUSE, Alpine and macOS keep the roots that the system trusts, in one file."""

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)

Marks = tuple[tuple[int, int, int], ...]
"""By which a change of files shows, without reading them."""


@dataclass(frozen=True, slots=True)
class FileSecret:
    """What a secret's name says: a chain and its key, or roots and what they revoked."""

    name: str
    chain: Path | None
    key: Path | None
    roots: Path | None
    revoked: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for file in (self.chain, self.key, self.roots, self.revoked) if file is not None)

    def marks(self) -> Marks:
        """Raises Unreachable if a file is not there."""
        try:
            found = [file.stat() for file in self.files]
        except OSError as missing:
            raise Unreachable(f"{missing.filename}: {missing.strerror}") from missing
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def read(self) -> ServedSecret:
        """The secret as Envoy takes it. Raises Unreachable, which says of what file what is wrong."""
        try:
            packed, public = self._certificate() if self.chain is not None else self._roots()
        except OSError as missing:
            raise Unreachable(f"{missing.filename}: {missing.strerror}") from missing
        return ServedSecret(self.name, hashlib.sha256(public).hexdigest()[:16], any_of(packed))

    def _certificate(self) -> tuple[Any, bytes]:
        """A Secret, and the part of it that a version may be made of."""
        assert self.chain is not None, "a chain and a key come together"
        assert self.key is not None, "a chain and a key come together"
        chain, key = self.chain.read_bytes(), self.key.read_bytes()
        try:
            leaf = x509.load_pem_x509_certificates(chain)[0].public_key()
        except _UNREADABLE as broken:
            raise Unreachable(f"{self.chain} is not a PEM certificate") from broken
        try:
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as broken:
            raise Unreachable(f"{self.key} is not a PEM private key without a password") from broken
        if private.public_key() != leaf:
            raise Unreachable(f"{self.key} is not the key of {self.chain}")
        certificate = tls_v3.TlsCertificate(
            certificate_chain=core_v3.DataSource(inline_bytes=chain), private_key=core_v3.DataSource(inline_bytes=key)
        )
        return tls_v3.Secret(name=self.name, tls_certificate=certificate), chain

    def _roots(self) -> tuple[Any, bytes]:
        assert self.roots is not None, "a secret without a certificate is of roots"
        roots, revoked = self.roots.read_bytes(), b""
        try:
            x509.load_pem_x509_certificates(roots)
        except _UNREADABLE as broken:
            raise Unreachable(f"{self.roots} has no PEM certificates") from broken
        context = tls_v3.CertificateValidationContext(trusted_ca=core_v3.DataSource(inline_bytes=roots))
        if self.revoked is not None:
            revoked = self.revoked.read_bytes()
            try:
                x509.load_pem_x509_crl(revoked)
            except _UNREADABLE as broken:
                raise Unreachable(f"{self.revoked} is not a PEM list of revoked certificates") from broken
            context.crl.inline_bytes = revoked
        return tls_v3.Secret(name=self.name, validation_context=context), roots + revoked


def file_secret(name: str) -> FileSecret | None:
    """What ``name`` says; None for a secret that is not of files. Raises Unreachable without roots of the system."""
    if name.startswith(FILE_CERTIFICATE):
        chain, _, key = name.removeprefix(FILE_CERTIFICATE).partition("~")
        return FileSecret(name, Path(chain), Path(key), None, None)
    if name.startswith(FILE_ROOTS):
        roots, _, revoked = name.removeprefix(FILE_ROOTS).partition("~")
        file = system_roots() if roots == SYSTEM else Path(roots)
        return FileSecret(name, None, None, file, Path(revoked) if revoked else None)
    return None


def is_file_secret(name: str) -> bool:
    return name.startswith((FILE_CERTIFICATE, FILE_ROOTS))


def system_roots() -> Path:
    """The file of the roots that the operating system trusts; SSL_CERT_FILE says another, as OpenSSL has it."""
    said = os.environ.get("SSL_CERT_FILE")
    if said:
        return Path(said)
    compiled_in = ssl.get_default_verify_paths().cafile
    places = [*_SYSTEM_ROOTS, *([compiled_in] if compiled_in else [])]
    found = next((Path(place) for place in places if Path(place).is_file()), None)
    if found is None:
        raise Unreachable(f"no file of the system's roots: none of {', '.join(places)}; name one in SSL_CERT_FILE")
    return found
