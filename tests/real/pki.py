"""A public key infrastructure to test with: roots, intermediates, and leaves with any flaw."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH

_HOUR = timedelta(hours=1)
_CA_USAGE = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
_LEAF_USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_RSA_BITS = 2048


class Flaw(Enum):
    """What is wrong with a leaf."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    CA = "CA:true"
    WRONG_PURPOSE = "of a server only"
    TWO_URIS = "two URI SANs"
    COMMON_NAME_ONLY = "no SAN, the name is the CN"


def ec_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key() -> PrivateKey:
    return rsa.generate_private_key(65537, _RSA_BITS)


def key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def san(written: str) -> x509.GeneralName:
    """``a.example.com``, ``spiffe://...``, ``me@example.com`` or ``10.0.0.1``, in the form that it looks like."""
    if "://" in written:
        return x509.UniformResourceIdentifier(written)
    if "@" in written:
        return x509.RFC822Name(written)
    try:
        return x509.IPAddress(ipaddress.ip_address(written))
    except ValueError:
        return x509.DNSName(written)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with the intermediates that lead to its root, and its key."""

    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    private: PrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The leaf alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> bytes:
        """The leaf first, then its intermediates, PEM."""
        return self.pem + b"".join(one.public_bytes(Encoding.PEM) for one in self.intermediates)

    @property
    def key(self) -> bytes:
        """PEM, PKCS #8."""
        return key_pem(self.private)

    @property
    def spki(self) -> str:
        """Of Envoy's ``verify_certificate_spki``: base64 of the SHA-256 of the SubjectPublicKeyInfo."""
        public = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(public).digest()).decode()

    @property
    def hash(self) -> str:
        """Of Envoy's ``verify_certificate_hash``: SHA-256 of the DER, in hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def written(self, folder: Path, name: str) -> Path:
        """One file of chain and key, as Python's and curl's TLS read them."""
        file = folder / f"{name}.pem"
        file.write_bytes(self.chain + self.key)
        return file


class Authority:
    """A root or an intermediate that signs leaves, intermediates and lists."""

    def __init__(self, name: str, issuer: Authority | None = None, key: PrivateKey | None = None) -> None:
        """``name``: the common name. Without ``issuer`` a root. The same ``key`` again: the same authority renewed."""
        self.private = ec_key() if key is None else key
        self.issuer = issuer
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer = self if issuer is None else issuer
        builder = _builder(self.subject, signer.subject, self.private, _window())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_CA_USAGE, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.private.public_key()), False)
        self.certificate = builder.add_extension(_issued_by(signer.private), False).sign(
            signer.private, hashes.SHA256()
        )

    @classmethod
    def stolen(cls, chain: Sequence[x509.Certificate], key: PrivateKey) -> Authority:
        """Somebody else's, by its key. ``chain``: its certificate first, then those above it, the root last."""
        found = cls.__new__(cls)
        found.certificate, found.private, found.subject = chain[0], key, chain[0].subject
        found.issuer = cls.stolen(chain[1:], key) if len(chain) > 1 else None
        return found

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def root(self) -> Authority:
        return self if self.issuer is None else self.issuer.root

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """From this authority up, without the root."""
        return () if self.issuer is None else (self.certificate, *self.issuer.intermediates)

    def intermediate(self, name: str) -> Authority:
        return Authority(name, self)

    def issue(
        self,
        *sans: str | x509.GeneralName,
        flaw: Flaw | None = None,
        common_name: str = "leaf",
        purposes: Sequence[x509.ObjectIdentifier] | None = (CLIENT, SERVER),
        key: PrivateKey | None = None,
        valid: tuple[datetime, datetime] | None = None,
        extensions: Iterable[x509.ExtensionType] = (),
    ) -> Leaf:
        """A leaf of these names; ``purposes`` None: no extended key usage. ``extensions``: more, none critical.

        TWO_URIS adds a second URI to the names given, COMMON_NAME_ONLY makes the first of them the CN. An empty
        ``common_name``: none.
        """
        private = ec_key() if key is None else key
        names = [san(one) if isinstance(one, str) else one for one in sans]
        if flaw is Flaw.TWO_URIS:
            names.append(san("spiffe://elsewhere.example/ns/a/sa/b"))
        if flaw is Flaw.COMMON_NAME_ONLY:
            common_name, names = str(sans[0]), []
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else [])
        builder = _builder(subject, self.subject, private, valid or _window(flaw))
        is_ca = flaw is Flaw.CA
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        builder = builder.add_extension(_CA_USAGE if is_ca else _LEAF_USAGE, critical=True)
        builder = builder.add_extension(_issued_by(self.private), critical=False)
        purposes = (SERVER,) if flaw is Flaw.WRONG_PURPOSE else purposes
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Leaf(builder.sign(self.private, hashes.SHA256()), self.intermediates, private)

    def revoke(self, *leaves: Leaf | Authority, ended: bool = False) -> bytes:
        """The list of what this authority has revoked, PEM. ``ended``: its next update is an hour overdue."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject)
        builder = builder.last_update(now - 2 * _HOUR).next_update(now - _HOUR if ended else now + _HOUR)
        builder = builder.add_extension(_issued_by(self.private), critical=False)
        for leaf in leaves:
            number = leaf.certificate.serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - _HOUR).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.private, hashes.SHA256()).public_bytes(Encoding.PEM)


def self_signed(*sans: str) -> Leaf:
    """A leaf that nobody but itself vouches for."""
    private = ec_key()
    stranger = Authority("self-signed", key=private)
    leaf = stranger.issue(*sans, common_name="self-signed", key=private)
    return Leaf(leaf.certificate, (), private)


def _issued_by(private: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key())


def _window(flaw: Flaw | None = None) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    if flaw is Flaw.EXPIRED:
        return now - 2 * _HOUR, now - _HOUR
    if flaw is Flaw.NOT_YET_VALID:
        return now + _HOUR, now + 2 * _HOUR
    return now - _HOUR, now + 24 * _HOUR


def _builder(
    subject: x509.Name, issuer: x509.Name, private: PrivateKey, valid: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
