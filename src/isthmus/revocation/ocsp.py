"""OCSP (RFC 6960): the question about a certificate, and the answer, believed only if the right one signed it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.held import CLOCK_SKEW

_AT_ANY_TIME = timedelta(hours=1)
"""How old an answer may be whose responder may know better at any time (RFC 6960, section 4.2.2.1)."""
_WEAK = (hashes.MD5, hashes.SHA1)


class CertificateStatus(Enum):
    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """``next_update`` None: the responder may know better at any time."""

    status: CertificateStatus
    this_update: datetime
    next_update: datetime | None
    der: bytes


def build_request(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """An OCSPRequest, DER. SHA-1 names the issuer, which every responder knows (RFC 5019, 2.1.1); it proves nothing.

    Without a nonce: the responders of public CAs answer from a cache, and ignore it.
    """
    return _question(certificate, issuer, hashes.SHA1()).public_bytes(Encoding.DER)  # noqa: S303


def _question(
    certificate: x509.Certificate, issuer: x509.Certificate, algorithm: hashes.HashAlgorithm
) -> ocsp.OCSPRequest:
    return ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm).build()


def read_response(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer:
    """What ``der`` says of ``certificate`` at ``now``.

    Raises RevocationUnavailable: no response, a responder that could not answer, an answer about another certificate,
    one that is not of this time, or one that neither ``issuer`` signed nor a responder that it certified to.
    """
    try:
        return _read(der, certificate, issuer, now)
    except RevocationUnavailable:
        raise
    except Exception as fault:
        # A stranger wrote it, and its parts are parsed as they are looked at: by parsers that raise what they like.
        raise RevocationUnavailable(f"the answer cannot be read: {type(fault).__name__}") from fault


def _read(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer:
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise RevocationUnavailable(f"the responder answered {response.response_status.name}")
        answers = list(response.responses)
    except ValueError:
        raise RevocationUnavailable("not an OCSP response") from None
    if len(answers) != 1:
        # Envoy takes no other, and we asked about one.
        raise RevocationUnavailable(f"{len(answers)} answers to one question")
    answer = answers[0]
    if not _about(answer, certificate, issuer):
        raise RevocationUnavailable("the answer is about another certificate")
    _signed(response, issuer, now)
    if answer.this_update_utc > now + CLOCK_SKEW:
        raise RevocationUnavailable("the answer is of the future: look at the clocks")
    if answer.next_update_utc is not None and answer.next_update_utc <= now:
        raise RevocationUnavailable(f"the answer has ended ({answer.next_update_utc.isoformat()})")
    if answer.next_update_utc is None and answer.this_update_utc < now - _AT_ANY_TIME:
        # Without a nonce, whoever stands in between could show an old one for ever.
        raise RevocationUnavailable(f"the answer is old ({answer.this_update_utc.isoformat()}) and says no end")
    return OcspAnswer(
        CertificateStatus[answer.certificate_status.name], answer.this_update_utc, answer.next_update_utc, der
    )


def _about(answer: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        asked = _question(certificate, issuer, answer.hash_algorithm)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return (asked.serial_number, asked.issuer_name_hash, asked.issuer_key_hash) == (
        answer.serial_number,
        answer.issuer_name_hash,
        answer.issuer_key_hash,
    )


def _signed(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """RFC 6960, section 4.2.2.2: by the issuer, or by whom the issuer itself certified to sign answers."""
    delegates = [one for one in response.certificates if one != issuer and _delegated(one, issuer, now)]
    for signer in (issuer, *delegates):
        if _named(response, signer) and _verifies(response, signer):
            return
    raise RevocationUnavailable("the answer is signed neither by the certificate's issuer nor by one that it appointed")


def _delegated(candidate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        candidate.verify_directly_issued_by(issuer)
        purposes = candidate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    in_time = candidate.not_valid_before_utc <= now < candidate.not_valid_after_utc
    return in_time and ExtendedKeyUsageOID.OCSP_SIGNING in purposes


def _named(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    own = x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    return response.responder_key_hash == own


def _verifies(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, signature, signed = signer.public_key(), response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
            return True
        algorithm = response.signature_hash_algorithm
        if algorithm is None or isinstance(algorithm, _WEAK):
            return False
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
            return True
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
            return True
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return False


def responder(certificate: x509.Certificate) -> str | None:
    """The http(s) URL at which a certificate says that its issuer answers (RFC 5280, section 4.2.2.1)."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    for one in access:
        place = one.access_location
        is_url = isinstance(place, x509.UniformResourceIdentifier)
        if one.access_method == AuthorityInformationAccessOID.OCSP and is_url and _is_http(place.value):
            return str(place.value)
    return None


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))
