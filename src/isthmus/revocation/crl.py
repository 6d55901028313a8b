"""Certificate revocation lists (RFC 5280, section 5): read, and believed only if the right CA signed them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.held import CLOCK_SKEW, Held

_PEM = b"-----BEGIN"
_LONG_AGO, _NEVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_UNDERSTOOD = {x509.CRLNumber.oid, x509.AuthorityKeyIdentifier.oid, x509.IssuingDistributionPoint.oid}


def read_crl(data: bytes, authorities: Sequence[x509.Certificate], now: datetime) -> Held:
    """The complete list in ``data`` (DER or PEM) that one of ``authorities`` signed for itself. It may have ended.

    Raises RevocationUnavailable: not a CRL, not signed by any of them, without an end, of the future, or not complete
    (a delta, an indirect list, one of some reasons only): Envoy would take what it does not name for good.
    """
    try:
        return _read(data, authorities, now)
    except RevocationUnavailable:
        raise
    except Exception as fault:
        # A stranger wrote it, and its parts are parsed as they are looked at: by parsers that raise what they like.
        raise RevocationUnavailable(f"the CRL cannot be read: {type(fault).__name__}") from fault


def _read(data: bytes, authorities: Sequence[x509.Certificate], now: datetime) -> Held:
    try:
        crl = x509.load_pem_x509_crl(data) if _PEM in data[:64] else x509.load_der_x509_crl(data)
        extensions = crl.extensions
    except ValueError:
        raise RevocationUnavailable("not a CRL, neither DER nor PEM") from None
    _signed(crl, authorities)
    _complete(extensions)
    if crl.next_update_utc is None:
        raise RevocationUnavailable("the CRL does not say when the next one comes (nextUpdate)")
    if crl.last_update_utc > now + CLOCK_SKEW:
        raise RevocationUnavailable(f"the CRL is of the future ({crl.last_update_utc.isoformat()}): look at the clocks")
    return Held(
        der=crl.public_bytes(Encoding.DER),
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        number=_number(extensions),
        revoked=frozenset(entry.serial_number for entry in crl),
        issuer=crl.issuer.public_bytes(),
        scope=_scope(extensions),
    )


def _signed(crl: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> None:
    of_that_name = [one for one in authorities if one.subject == crl.issuer]
    if not of_that_name:
        raise RevocationUnavailable(f"the CRL is of {crl.issuer.rfc4514_string()}, which is none of the client CAs")
    if not any(_may_sign(one) and _verifies(crl, one) for one in of_that_name):
        raise RevocationUnavailable(f"the CRL of {crl.issuer.rfc4514_string()} is not signed with that CA's key")


def _verifies(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a key that no list can be signed with
        return False


def _may_sign(authority: x509.Certificate) -> bool:
    try:
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _complete(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.oid == x509.DeltaCRLIndicator.oid:
            raise RevocationUnavailable("a delta CRL: the complete one is needed")
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise RevocationUnavailable(f"the CRL has a critical extension {extension.oid.dotted_string}")
        point = extension.value
        if isinstance(point, x509.IssuingDistributionPoint) and (
            point.indirect_crl
            or point.only_some_reasons
            or point.only_contains_attribute_certs
            or point.only_contains_ca_certs
        ):
            raise RevocationUnavailable("the CRL is not of all user certificates and reasons of its CA")


def _number(extensions: x509.Extensions) -> int | None:
    try:
        return extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _scope(extensions: x509.Extensions) -> bytes:
    try:
        return extensions.get_extension_for_class(x509.IssuingDistributionPoint).value.public_bytes()
    except x509.ExtensionNotFound:
        return b""


def crl_pem(der: bytes) -> bytes:
    """A list in the form that Envoy takes."""
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)


def distribution_points(certificate: x509.Certificate) -> tuple[str, ...]:
    """The http(s) URLs at which a certificate says that its issuer publishes who is revoked."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    names = (name for point in points for name in point.full_name or ())
    urls = (name.value for name in names if isinstance(name, x509.UniformResourceIdentifier))
    return tuple(url for url in urls if url.lower().startswith(("http://", "https://")))


@cache
def nobodys_crl() -> bytes:
    """An empty list, PEM, of a CA that nobody has: beside it, Envoy refuses every chain for want of its own list."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody: the list of the client CAs is not there yet")])
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(_LONG_AGO).next_update(_NEVER)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
