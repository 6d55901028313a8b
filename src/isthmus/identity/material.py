"""What a certificate authority is made of, read from PEM and checked. ``where`` is the file's name, for complaints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from isthmus.errors import Refused, StateUnusable
from isthmus.identity.authority import SigningKey
from isthmus.identity.validate import encoded_key, find_extension


def read_certificates(where: str, data: bytes) -> tuple[x509.Certificate, ...]:
    """Raises StateUnusable: not certificates in PEM."""
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise StateUnusable(f"{where}: not a certificate in PEM") from error


def read_key(where: str, data: bytes) -> SigningKey:
    """Raises StateUnusable: not a private key that we can sign with; its message quotes nothing of it."""
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise StateUnusable(f"{where}: the key is encrypted; it is wanted in the clear") from None
    except (ValueError, UnsupportedAlgorithm):
        # Without its cause: a parser's message may quote what it read.
        raise StateUnusable(f"{where}: not a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise StateUnusable(f"{where}: keys are EC, RSA or Ed25519, not {type(key).__name__}")
    return key


def check_authority(where: str, certificate: x509.Certificate, trust_domain: str) -> None:
    """Raises StateUnusable: not an authority's certificate; Refused: another trust domain's."""
    try:
        constraints = find_extension(certificate, x509.BasicConstraints)
        usage = find_extension(certificate, x509.KeyUsage)
        names = find_extension(certificate, x509.SubjectAlternativeName)
    except (ValueError, x509.DuplicateExtension):
        raise StateUnusable(f"{where}: not a readable certificate") from None
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        raise StateUnusable(f"{where}: not an authority's certificate")
    if names is None:
        # A user's own authority need not say whose it is.
        return
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe://") and uri != f"spiffe://{trust_domain}":
            raise Refused(
                f"{where}: belongs to the trust domain {uri.removeprefix('spiffe://')}, not "
                f"{trust_domain}: take another state directory, or set the trust domain back"
            )


def check_chain(where: str, chain: Sequence[x509.Certificate], root: x509.Certificate, where_root: str) -> None:
    """Each of ``chain`` is issued by the next, the last by ``root``. Raises StateUnusable, saying what is not so."""
    for below, (certificate, issuer) in enumerate(zip(chain, (*chain[1:], root), strict=True), start=1):
        constraints = find_extension(issuer, x509.BasicConstraints)
        longest = constraints.path_length if constraints is not None else None
        if longest is not None and longest < below:
            raise StateUnusable(f"{where}: its issuer allows {longest} authorities below it")
        if not issued_by(certificate, issuer):
            raise StateUnusable(f"{where}: does not lead to {where_root}")


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether name and signature say so."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def is_key_of(key: SigningKey, certificate: x509.Certificate) -> bool:
    return encoded_key(key.public_key()) == encoded_key(certificate.public_key())


def check_dates(where: str, certificate: x509.Certificate, now: datetime) -> None:
    """Raises Refused: it has ended, or not begun."""
    if certificate.not_valid_after_utc <= now:
        raise Refused(f"{where}: ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z")
    if certificate.not_valid_before_utc > now:
        raise Refused(f"{where}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}Z")


def are_among(some: bytes, others: bytes) -> bool:
    """Whether all certificates of one PEM text are in another, and there is any."""
    try:
        found = set(x509.load_pem_x509_certificates(some))
        return bool(found) and found <= set(x509.load_pem_x509_certificates(others))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER form, hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def pem_of(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
