"""What others send us, and what we are about to send: certificate requests, peers' certificates, our own work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus.errors import CsrRejected, SpiffeIdInvalid, SvidInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.template import PublicKey

CSR_MAX_BYTES = 64 * 1024
RSA_MIN_BITS = 2048
RSA_MAX_BITS = 8192
"""Verifying with a larger key costs us more than it costs the sender."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Csr:
    """A certificate request that may be signed. Only the key is kept: names come from whom we authenticated."""

    public_key: PublicKey


def read_csr(data: bytes) -> Csr:
    """Read a PKCS#10 request, PEM or DER.

    Raises CsrRejected: unreadable, over 64 KiB, bad self-signature, a key that is none of EC P-256, EC P-384, Ed25519,
    RSA of 2048 to 8192 bits, or more than one URI name. Source: RFC 2986; SPIFFE X509-SVID.md, section 2.
    """
    if len(data) > CSR_MAX_BYTES:
        raise CsrRejected(f"a certificate request has at most {CSR_MAX_BYTES} bytes")
    try:
        pem = b"-----BEGIN" in data
        request = x509.load_pem_x509_csr(data) if pem else x509.load_der_x509_csr(data)
        public_key = _strong(request.public_key())
        signed = request.is_signature_valid
        uris = _uri_names(request.extensions)
    except (
        ValueError,
        UnsupportedAlgorithm,
        InvalidSignature,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ) as error:
        raise CsrRejected(f"not a readable certificate request: {error}") from error
    if not signed:
        raise CsrRejected("the certificate request is not signed by its own key")
    if len(uris) > 1:
        raise CsrRejected(f"a certificate request names at most one URI, not {len(uris)}")
    return Csr(public_key)


def peer_identity(certificate: x509.Certificate | bytes, now: datetime | None = None) -> SpiffeId:
    """Whose certificate this is: an X.509-SVID, as a handshake showed it (its chain is verified there).

    ``certificate``: the leaf, PEM where it is bytes. With ``now``, one that has ended is refused too: a connection
    can outlive the certificate it was opened with.
    Raises SvidInvalid: unreadable, none or more than one URI name, no SPIFFE ID with a path, an authority's
    certificate, or one that may sign certificates. Source: SPIFFE X509-SVID.md, sections 2, 4 and 5.
    """
    try:
        if isinstance(certificate, bytes):
            certificate = x509.load_pem_x509_certificate(certificate)
        uris = _uri_names(certificate.extensions)
        constraints = find_extension(certificate, x509.BasicConstraints)
        usage = find_extension(certificate, x509.KeyUsage)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise SvidInvalid(f"not a readable certificate: {error}") from error
    if len(uris) != 1:
        raise SvidInvalid(f"an X.509-SVID has exactly one URI name, this has {len(uris)}")
    if constraints is not None and constraints.ca:
        raise SvidInvalid("the certificate is an authority's")
    if usage is None or usage.key_cert_sign or usage.crl_sign or not usage.digital_signature:
        raise SvidInvalid("an X.509-SVID may sign data, and neither certificates nor revocation lists")
    if now is not None and not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise SvidInvalid(f"the certificate is not valid now: it ends at {certificate.not_valid_after_utc.isoformat()}")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except SpiffeIdInvalid as error:
        raise SvidInvalid(str(error)) from error
    if not spiffe_id.path:
        raise SvidInvalid(f"{spiffe_id} is a trust domain, not a workload")
    return spiffe_id


def check_svid(
    made: x509.Certificate,
    spiffe_id: SpiffeId,
    csr: Csr,
    issuer: x509.Certificate,
    now: datetime,
    dns_names: tuple[str, ...] = (),
) -> None:
    """Did we make what we meant? Raises SvidInvalid, naming what differs: such a certificate must not leave."""
    _require(peer_identity(made, now) == spiffe_id, "is for another SPIFFE ID")
    uses = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    _check_leaf(made, uses, [spiffe_id.uri, *dns_names], csr, issuer, now)


def check_server(
    made: x509.Certificate, dns_names: tuple[str, ...], csr: Csr, issuer: x509.Certificate, now: datetime
) -> None:
    """As :func:`check_svid`, for a web server's certificate."""
    _check_leaf(made, {ExtendedKeyUsageOID.SERVER_AUTH}, [*dns_names], csr, issuer, now)


def _check_leaf(
    made: x509.Certificate,
    uses: set[x509.ObjectIdentifier],
    names: list[str],
    csr: Csr,
    issuer: x509.Certificate,
    now: datetime,
) -> None:
    try:
        made.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise SvidInvalid("the certificate made is not signed by its issuer") from error
    alternatives = find_extension(made, x509.SubjectAlternativeName)
    extended = find_extension(made, x509.ExtendedKeyUsage)
    constraints = find_extension(made, x509.BasicConstraints)
    inside = issuer.not_valid_before_utc <= made.not_valid_before_utc <= now < made.not_valid_after_utc
    _require(encoded_key(made.public_key()) == encoded_key(csr.public_key), "has another key")
    _require(alternatives is not None and [name.value for name in alternatives] == names, "has other names")
    _require(extended is not None and set(extended) == uses, "has other uses")
    _require(constraints is not None and not constraints.ca, "is an authority's")
    _require(
        inside and made.not_valid_after_utc <= issuer.not_valid_after_utc, "outlives its issuer or is not valid now"
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SvidInvalid(f"the certificate made {otherwise}")


def _strong(key: object) -> PublicKey:
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case rsa.RSAPublicKey(key_size=bits) if RSA_MIN_BITS <= bits <= RSA_MAX_BITS:
            return key
        case ec.EllipticCurvePublicKey(curve=curve):
            raise CsrRejected(f"keys are EC P-256 or P-384, Ed25519 or RSA, not EC {curve.name}")
        case rsa.RSAPublicKey(key_size=bits):
            raise CsrRejected(f"an RSA key has {RSA_MIN_BITS} to {RSA_MAX_BITS} bits, not {bits}")
    raise CsrRejected(f"keys are EC P-256 or P-384, Ed25519 or RSA, not {type(key).__name__}")


def _uri_names(extensions: x509.Extensions) -> list[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def find_extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """The extension of this kind; None if there is none. Raises ValueError or DuplicateExtension: unreadable."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def encoded_key(key: CertificatePublicKeyTypes) -> bytes:
    """The key as certificates carry it (SubjectPublicKeyInfo, DER): how two keys are compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
