"""Client certificates: whose they are, by the names in them. That they are valid Envoy's handshake has seen to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509.oid import NameOID

from isthmus.decide.client.outcome import Refused, Verified
from isthmus.model.consumer import COMMON_NAME

METHOD = "certificate"
_REMEMBERED = 4096
_URI = "://"
_LONGEST = 64 << 10


class Nobody(ValueError):
    """A certificate that cannot be read, or that names more than one identity."""


def consumer_of(certificate: str, owners: Mapping[str, str]) -> Verified | Refused | None:
    """``certificate``: PEM, percent-encoded. ``owners``: of :func:`owners_of`. None: it is none of theirs."""
    try:
        names = certificate_names(certificate)
    except Nobody:
        return Refused("consumer-unknown", 401)
    found = {owners[name] for name in names if name in owners}
    if len(found) > 1:
        # Which of them it was made for, nobody says.
        return Refused("consumer-unknown", 401)
    return Verified(METHOD, found.pop()) if found else None


def owners_of(consumers: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """Consumers by their certificates' names, of (consumer, names)."""
    return {written(name): consumer for consumer, names in consumers for name in names}


def written(name: str) -> str:
    """A name as names are compared: DNS names regardless of case (RFC 4343)."""
    return name if _URI in name or name.startswith(COMMON_NAME) else name.lower()


@lru_cache(_REMEMBERED)
def certificate_names(certificate: str) -> frozenset[str]:
    """The subject alternative names (URI, DNS) and the Common Name. Raises Nobody."""
    if len(certificate) > _LONGEST:
        raise Nobody("too long")
    try:
        parsed = x509.load_pem_x509_certificate(unquote(certificate).encode())
        uris, dns = _alternative_names(parsed)
        common = [str(one.value) for one in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as wrong:
        raise Nobody(str(wrong)) from None
    if len(uris) > 1 or len(common) > 1:
        raise Nobody("it names more than one identity")
    # Each sort of name as none of the others is written: a CA may look at one and let people choose another.
    kept = {uri for uri in uris if _URI in uri}
    kept |= {written(name) for name in dns if _URI not in name and not name.startswith(COMMON_NAME)}
    return frozenset({*kept, *(COMMON_NAME + name for name in common)})


def _alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return found.get_values_for_type(x509.UniformResourceIdentifier), found.get_values_for_type(x509.DNSName)
