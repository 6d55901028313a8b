"""Lists of revoked certificates (CRLs) that our own authority signs. No files, no clock.

Source: RFC 5280, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from isthmus.identity.authority import MAX_TTL, SigningKey, signature_hash
from isthmus.identity.revoked import Reason, RevokedCertificate
from isthmus.identity.template import BACKDATED
from isthmus.identity.validate import find_extension

REFRESHED = timedelta(days=1)
"""How old a list becomes before the next one is signed."""
LIFE = MAX_TTL + 2 * REFRESHED
"""From a list's ``thisUpdate`` to its ``nextUpdate``.

A list that has ended shuts out everybody, so it lives longer than all that its signer signed before the next one: where
the authority is away, certificates end before their list does.
"""


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate of whose signature something may live. ``until``: when the last of it ends."""

    certificate: x509.Certificate
    key: SigningKey = field(repr=False, compare=False)
    until: datetime

    @property
    def may_sign_lists(self) -> bool:
        """Whether its certificate lets it (``cRLSign``): verifiers refuse a list of one that may not."""
        usage = find_extension(self.certificate, x509.KeyUsage)
        return usage is None or usage.crl_sign


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list, as somebody signed it. ``pem``: with the lines around it."""

    pem: str
    issuer: str
    number: int
    this_update: datetime
    next_update: datetime
    serials: frozenset[int]
    certificate: x509.CertificateRevocationList = field(repr=False, compare=False)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def is_by(self, signer: x509.Certificate) -> bool:
        """Whether ``signer`` signed it."""
        key = signer.public_key()
        try:
            return self.certificate.issuer == signer.subject and self.certificate.is_signature_valid(key)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False

    def is_due(self, now: datetime) -> bool:
        return not self.this_update - REFRESHED <= now < self.this_update + REFRESHED


def build_list(signer: Signer, revoked: Iterable[RevokedCertificate], number: int, now: datetime) -> RevocationList:
    """The complete list of ``signer``, which may sign lists. ``number`` is higher than that of any before."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(max(now - BACKDATED, signer.certificate.not_valid_before_utc))
        .next_update(now + LIFE)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_key_identifier(signer.certificate), critical=False)
    )
    for one in sorted(revoked, key=lambda one: one.serial):
        builder = builder.add_revoked_certificate(_entry(one))
    return _described(builder.sign(signer.key, signature_hash(signer.key)))


def read_lists(pem: bytes) -> tuple[RevocationList, ...]:
    """What :func:`build_list` made, one after the other. What is none of it is left out."""
    found = []
    end = b"-----END X509 CRL-----"
    for text in pem.split(end)[:-1]:
        try:
            found.append(_described(x509.load_pem_x509_crl(text.strip() + b"\n" + end + b"\n")))
        except (ValueError, x509.ExtensionNotFound):
            continue
    return tuple(found)


def are_all_listed(signers: Sequence[Signer], lists: Sequence[RevocationList]) -> bool:
    """Whether each of ``signers`` has its list: who verifies by lists refuses what an authority without one signed."""
    return all(any(one.is_by(signer.certificate) for one in lists) for signer in signers)


def _described(made: x509.CertificateRevocationList) -> RevocationList:
    """Raises ValueError, x509.ExtensionNotFound: without a number or an end, so none of ours."""
    if made.next_update_utc is None:
        raise ValueError("no nextUpdate")
    return RevocationList(
        pem=made.public_bytes(Encoding.PEM).decode("ascii"),
        issuer=made.issuer.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"}),
        number=made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        this_update=made.last_update_utc,
        next_update=made.next_update_utc,
        serials=frozenset(one.serial_number for one in made),
        certificate=made,
    )


def _entry(one: RevokedCertificate) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.at)
    if one.reason is not Reason.UNSPECIFIED:
        # "unspecified" is said by saying nothing (RFC 5280, section 5.3.1).
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(one.reason.value)), critical=False)
    return builder.build()


def _key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The same that is in the certificates of ``issuer``: by it verifiers find the list."""
    identifier = find_extension(issuer, x509.SubjectKeyIdentifier)
    if identifier is None:
        identifier = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
