"""A trust bundle in SPIFFE's form: a JWK Set of what may speak for one trust domain.

Source: SPIFFE Trust Domain and Bundle, sections 4 and 5; X509-SVID, section 6; JWT-SVID, section 6.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from isthmus.errors import BundleUnavailable

X509_USE: Final = "x509-svid"
JWT_USE: Final = "jwt-svid"
MAX_BYTES: Final = 1024 * 1024
_MAX_KEYS: Final = 100
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_SCHEME: Final = "spiffe://"
_UNREADABLE: Final = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class SpiffeBundle:
    """``roots``: certificates of authorities, PEM. ``jwt_keys``: public JWKs with their ``kid``, as canonical JSON."""

    roots: tuple[str, ...]
    jwt_keys: tuple[str, ...] = ()
    sequence: int | None = None
    """Grows with every change; None: not said."""
    refresh_hint: timedelta | None = None
    """How often to ask for news; None: not said."""

    def to_json(self) -> str:
        """The document; :func:`read_spiffe_bundle` reads it back."""
        keys: list[dict[str, Any]] = [_x509_entry(root) for root in self.roots]
        keys += [{**json.loads(key), "use": JWT_USE} for key in self.jwt_keys]
        document: dict[str, Any] = {"keys": keys}
        if self.sequence is not None:
            document["spiffe_sequence"] = self.sequence
        if self.refresh_hint is not None:
            document["spiffe_refresh_hint"] = int(self.refresh_hint.total_seconds())
        return json.dumps(document, indent=2)


def read_spiffe_bundle(text: str | bytes, trust_domain: str) -> SpiffeBundle:
    """The bundle of ``trust_domain`` that ``text`` holds (JSON, at most 1 MiB).

    Elements of an unknown ``use`` or ``kty`` are left out, as the standard says. Raises BundleUnavailable: not such a
    document, a private key in it, an authority that is none or that names another trust domain, or no authority at all.
    """
    if len(text) > MAX_BYTES:
        raise BundleUnavailable(f"more than {MAX_BYTES} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise BundleUnavailable("not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise BundleUnavailable('not a SPIFFE bundle: no list "keys"')
    entries = document["keys"]
    if len(entries) > _MAX_KEYS:
        raise BundleUnavailable(f"more than {_MAX_KEYS} keys")
    roots: list[str] = []
    jwt_keys: list[str] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise BundleUnavailable(f"key {index} is not an object")
        if not _PRIVATE.isdisjoint(entry):
            raise BundleUnavailable(f"key {index} is a private key: whoever published it has given it away")
        if entry.get("kty") not in ("EC", "RSA"):
            continue
        if entry.get("use") == X509_USE:
            roots.append(_read_root(entry, index, trust_domain))
        elif entry.get("use") == JWT_USE:
            jwt_keys.append(_read_jwt_key(entry, index))
    if not roots:
        raise BundleUnavailable(f'no authority for X.509 (a key with "use": "{X509_USE}")')
    return SpiffeBundle(
        tuple(dict.fromkeys(roots)),
        tuple(dict.fromkeys(jwt_keys)),
        _number(document, "spiffe_sequence"),
        _hint(document),
    )


def public_keys(roots: Iterable[str]) -> frozenset[bytes]:
    """The keys of certificates (PEM): by these two bundles are compared, whatever the certificates say."""
    return frozenset(
        x509.load_pem_x509_certificate(root.encode())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for root in roots
    )


def _read_root(entry: dict[str, Any], index: int, trust_domain: str) -> str:
    chain = entry.get("x5c")
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise BundleUnavailable(f"key {index}: x5c holds exactly one certificate")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        key = certificate.public_key()
        uris = _uris(certificate)
    except (binascii.Error, ValueError, *_UNREADABLE):
        raise BundleUnavailable(f"key {index}: not the certificate of an authority") from None
    if not constraints.ca:
        raise BundleUnavailable(f"key {index}: not the certificate of an authority")
    # What could not be written again could not be kept either.
    _jwk(key)
    for uri in uris:
        if uri.startswith(_SCHEME) and uri.removeprefix(_SCHEME).partition("/")[0] != trust_domain:
            raise BundleUnavailable(f"key {index} is an authority of {uri[:300]}, not of {trust_domain}")
    return certificate.public_bytes(Encoding.PEM).decode()


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _read_jwt_key(entry: dict[str, Any], index: int) -> str:
    if not isinstance(entry.get("kid"), str) or not entry["kid"]:
        raise BundleUnavailable(f"key {index}: a key for JWT-SVIDs has a kid")
    known = {name: entry[name] for name in ("kty", "kid", "alg", "crv", "x", "y", "n", "e") if name in entry}
    if not all(isinstance(value, str) for value in known.values()):
        raise BundleUnavailable(f"key {index}: not a public key")
    return json.dumps(known, sort_keys=True, separators=(",", ":"))


def _number(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BundleUnavailable(f"{name} is not a number")
    return value


def _hint(document: dict[str, Any]) -> timedelta | None:
    seconds = _number(document, "spiffe_refresh_hint")
    # Above a year it is a mistake, and a timedelta has a limit.
    return None if seconds is None else timedelta(seconds=min(seconds, 366 * 86400))


def _x509_entry(root: str) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(root.encode())
    entry = _jwk(certificate.public_key())
    encoded = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    return {**entry, "use": X509_USE, "x5c": [encoded]}


def _jwk(key: Any) -> dict[str, str]:
    """The key's own members, RFC 7518 section 6: ``kty`` is required beside ``x5c``."""

    def number(value: int, size: int) -> str:
        return base64.urlsafe_b64encode(value.to_bytes(size)).rstrip(b"=").decode()

    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}.get(key.curve.name, key.curve.name)
        return {"kty": "EC", "crv": curve, "x": number(numbers.x, size), "y": number(numbers.y, size)}
    if isinstance(key, rsa.RSAPublicKey):
        both = key.public_numbers()
        return {
            "kty": "RSA",
            "n": number(both.n, (both.n.bit_length() + 7) // 8),
            "e": number(both.e, (both.e.bit_length() + 7) // 8),
        }
    raise BundleUnavailable(f"an authority with a key of another kind than EC and RSA: {type(key).__name__}")
