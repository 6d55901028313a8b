"""Lists and OCSP answers, right and wrong, by the authorities of ``tests/real/pki.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus.errors import RevocationUnavailable
from tests.real.pki import Authority, Leaf

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING


def crl(
    authority: Authority,
    *revoked: int,
    number: int | None = None,
    since: datetime = NOW,
    until: datetime | None = NOW + HOUR,
    signer: Authority | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """DER. ``signer``: whose key signs in place of the authority's own."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.subject).last_update(since)
    builder = builder.next_update(until if until is not None else since + HOUR)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign((signer or authority).private, hashes.SHA256()).public_bytes(Encoding.DER)


def point(**written: Any) -> x509.IssuingDistributionPoint:
    """An issuing distribution point of which one thing is said."""
    said: dict[str, Any] = dict.fromkeys(("full_name", "relative_name", "only_some_reasons"))
    said |= dict.fromkeys(("only_contains_user_certs", "only_contains_ca_certs"), False)
    said |= dict.fromkeys(("indirect_crl", "only_contains_attribute_certs"), False)
    return x509.IssuingDistributionPoint(**{**said, **written})


def altered(der: bytes) -> bytes:
    """With another signature, of which that is the end."""
    return der[:-1] + bytes([der[-1] ^ 1])


def published_at(*urls: str) -> x509.CRLDistributionPoints:
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None) for name in names])


MUST_STAPLE = x509.TLSFeature([x509.TLSFeatureType.status_request])


def answer(
    leaf: Leaf,
    issuer: Authority,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    since: datetime = NOW,
    until: datetime | None = NOW + HOUR,
    signer: Authority | Leaf | None = None,
    by_hash: bool = False,
    beside: Sequence[x509.Certificate] = (),
) -> bytes:
    """An OCSP response, DER. ``signer``: the issuer by default; ``beside``: certificates that come with it."""
    signer = signer or issuer
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=leaf.certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA1(),
        cert_status=status,
        this_update=since,
        next_update=until,
        revocation_time=since if status is ocsp.OCSPCertStatus.REVOKED else None,
        revocation_reason=None,
    )
    encoding = ocsp.OCSPResponderEncoding.HASH if by_hash else ocsp.OCSPResponderEncoding.NAME
    builder = builder.responder_id(encoding, signer.certificate)
    if beside:
        builder = builder.certificates(list(beside))
    return builder.sign(signer.private, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass
class FakeFetcher:
    """Gives what is set for a URL, and fails with the text set instead."""

    answers: dict[str, bytes | str]
    asked: list[tuple[str, bytes | None]]

    def __init__(self, **answers: bytes | str) -> None:
        self.answers = dict(answers)
        self.asked = []

    async def fetch(self, url: str, body: bytes | None, within: timedelta | None = None) -> bytes:
        self.asked.append((url, body))
        found = self.answers.get(url, "nobody there")
        if isinstance(found, str):
            raise RevocationUnavailable(found)
        return found
