"""A certificate in values for people and programs: who, by whom, for what, how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.identity.material import fingerprint
from isthmus.identity.validate import find_extension

_USES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP signing",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
}
_ATTRIBUTES = {NameOID.SERIAL_NUMBER: "serialNumber"}
_FORMS = (
    (x509.UniformResourceIdentifier, "URI"),
    (x509.DNSName, "DNS"),
    (x509.RFC822Name, "email"),
    (x509.IPAddress, "IP"),
)


@dataclass(frozen=True, slots=True)
class Description:
    """``names``: subject alternative names, ``URI:…`` or ``DNS:…``; ``uses``: of the extended key usage, none: any."""

    subject: str
    issuer: str
    serial: str
    sha256: str
    names: tuple[str, ...]
    uses: tuple[str, ...]
    authority: bool
    key: str
    not_before: datetime
    not_after: datetime

    def as_json(self) -> dict[str, object]:
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": self.serial,
            "sha256": self.sha256,
            "names": list(self.names),
            "uses": list(self.uses),
            "authority": self.authority,
            "key": self.key,
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
        }


def describe(certificate: x509.Certificate) -> Description:
    """Raises ValueError: an extension of it cannot be read."""
    try:
        names = find_extension(certificate, x509.SubjectAlternativeName)
        uses = find_extension(certificate, x509.ExtendedKeyUsage)
        constraints = find_extension(certificate, x509.BasicConstraints)
    except x509.DuplicateExtension as error:
        raise ValueError("an extension is there twice") from error
    return Description(
        subject=certificate.subject.rfc4514_string(_ATTRIBUTES),
        issuer=certificate.issuer.rfc4514_string(_ATTRIBUTES),
        serial=f"{certificate.serial_number:x}",
        sha256=fingerprint(certificate),
        names=tuple(
            f"{form}:{value}"
            for kind, form in _FORMS
            for value in (names.get_values_for_type(kind) if names is not None else ())
        ),
        uses=tuple(_USES.get(use, use.dotted_string) for use in uses or ()),
        authority=constraints is not None and constraints.ca,
        key=_key(certificate.public_key()),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _key(key: CertificatePublicKeyTypes) -> str:
    match key:
        case ec.EllipticCurvePublicKey(curve=curve):
            return f"EC {curve.name}"
        case rsa.RSAPublicKey(key_size=bits):
            return f"RSA {bits}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
    return type(key).__name__


def validity(found: Description, now: datetime) -> str:
    """In plain words: ``ends in 3 days``, ``ended 2 hours ago``, ``begins in 5 minutes``."""
    if now < found.not_before:
        return f"begins in {words(found.not_before - now)}: not valid yet"
    if found.not_after <= now:
        return f"ended {words(now - found.not_after)} ago"
    return f"ends in {words(found.not_after - now)}"


def words(span: timedelta) -> str:
    """The two largest units."""
    seconds = int(span.total_seconds())
    parts: list[str] = []
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count or parts or size == 1:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "a moment"
