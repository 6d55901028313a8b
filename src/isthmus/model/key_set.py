"""``KeySet``: an issuer's public keys, checked and in one canonical text.

Envoy refuses a whole listener for a key set without a usable key, ignores ``use`` and ``key_ops``, and verifies HMAC
signatures with a symmetric key. So nothing reaches it but what :func:`read_key_set` has rebuilt, member by member.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.errors import JwksUnavailable

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_RSA_EXPONENTS: Final = frozenset({3, 65537})
"""BoringSSL parses no other public exponent."""
_RSA_BITS: Final = range(2048, 16384 + 1)
"""From RFC 7518 section 3.3 (at least 2048 bits) to what BoringSSL parses."""
_CURVES: Final[Mapping[str, tuple[ec.EllipticCurve, str]]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
}
_ED25519_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeySet:
    """Public signing keys that Envoy accepts. Equal keys give equal sets, in whatever order they were published."""

    text: str
    """A JWK Set (RFC 7517 section 5): one line, sorted, only the members that verification needs."""
    key_ids: tuple[str, ...]
    """The ``kid`` of each key that has one, sorted."""
    dropped: tuple[str, ...] = field(default=(), compare=False)
    """Why each key that was left out was left out."""


class _Unusable(Exception):
    """One key of a set that is left out; says why."""


def read_key_set(text: str | bytes) -> KeySet:
    """Read a JWK Set (RFC 7517 section 5), keeping the public keys that can verify a signature in Envoy.

    Kept: RSA of 2048 to 16384 bits, EC on P-256, P-384 or P-521, and Ed25519 (RFC 7518 section 6, RFC 8037). Left out,
    with the reason in ``dropped``: symmetric keys, keys for encryption, everything that Envoy cannot parse.

    Raises JwksUnavailable: not JSON, no ``keys``, no usable key, or a private key among them: whoever publishes that
    has given it away, and a set that anybody may sign for is no proof of anything.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise JwksUnavailable("not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise JwksUnavailable('no list "keys"')
    kept: dict[str, dict[str, str]] = {}
    dropped: list[str] = []
    for index, entry in enumerate(document["keys"]):
        try:
            key = _read_key(entry)
        except _Unusable as fault:
            dropped.append(f"{_name(entry, index)}: {fault}")
        else:
            kept[_canonical(key)] = key
    if not kept:
        raise JwksUnavailable("no usable key" + (f" ({'; '.join(dropped[:3])})" if dropped else ""))
    key_ids = sorted({key["kid"] for key in kept.values() if "kid" in key})
    return KeySet(f'{{"keys":[{",".join(sorted(kept))}]}}', tuple(key_ids), tuple(dropped))


def _name(entry: Any, index: int) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"key {kid[:64]!a}" if isinstance(kid, str) else f"key number {index + 1}"


def _canonical(value: Mapping[str, str]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _read_key(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise _Unusable("not an object")
    kind = entry.get("kty")
    if kind == "oct" or "k" in entry:
        raise _Unusable("a symmetric key, which signs as well as it verifies")
    if not _PRIVATE.isdisjoint(entry):
        raise JwksUnavailable("contains a private key: publish the public part alone, and use new keys")
    if entry.get("use", "sig") != "sig":
        raise _Unusable("not for signatures (use)")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Unusable("not for verifying (key_ops)")
    if kind == "RSA":
        key = _read_rsa(entry)
    elif kind == "EC":
        key = _read_ec(entry)
    elif kind == "OKP":
        key = _read_okp(entry)
    else:
        raise _Unusable("a key type (kty) other than RSA, EC and OKP")
    return key | _read_kid(entry)


def _read_kid(entry: Mapping[str, Any]) -> dict[str, str]:
    kid = entry.get("kid")
    if kid is None:
        return {}
    # Envoy takes a kid that is no text for a missing one, which matches every token; a lone surrogate is no JSON to it.
    if not isinstance(kid, str) or any("\ud800" <= character <= "\udfff" for character in kid):
        raise _Unusable("its kid is not text")
    return {"kid": kid}


def _read_rsa(entry: Mapping[str, Any]) -> dict[str, str]:
    modulus, exponent = _integer(entry, "n"), _integer(entry, "e")
    if modulus.bit_length() not in _RSA_BITS:
        raise _Unusable(f"an RSA key of {modulus.bit_length()} bits, not of {_RSA_BITS[0]} to {_RSA_BITS[-1]}")
    if modulus % 2 == 0 or exponent not in _RSA_EXPONENTS:
        raise _Unusable("not an RSA key that Envoy parses (n is even, or e is neither 3 nor 65537)")
    key = {"kty": "RSA", "n": _text(modulus), "e": _text(exponent)}
    return key | _read_algorithm(entry, _RSA_ALGORITHMS)


def _read_ec(entry: Mapping[str, Any]) -> dict[str, str]:
    name = entry.get("crv")
    if not isinstance(name, str) or name not in _CURVES:
        raise _Unusable("a curve (crv) other than P-256, P-384 and P-521")
    curve, algorithm = _CURVES[name]
    x, y = _integer(entry, "x"), _integer(entry, "y")
    try:
        ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise _Unusable(f"not a point of {name}") from None
    size = (curve.key_size + 7) // 8
    key = {"kty": "EC", "crv": name, "x": _text(x, size), "y": _text(y, size)}
    return key | _read_algorithm(entry, frozenset({algorithm}))


def _read_okp(entry: Mapping[str, Any]) -> dict[str, str]:
    if entry.get("crv") != "Ed25519":
        raise _Unusable("a curve (crv) other than Ed25519")
    point = _bytes(entry, "x")
    if len(point) != _ED25519_BYTES:
        raise _Unusable(f"an Ed25519 key of {len(point)} bytes")
    algorithm = _read_algorithm(entry, frozenset({"EdDSA", "Ed25519"}))
    # RFC 9864 renames EdDSA to Ed25519; Envoy refuses a key with the new name.
    return {"kty": "OKP", "crv": "Ed25519", "x": _encoded(point)} | ({"alg": "EdDSA"} if algorithm else {})


def _read_algorithm(entry: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, str]:
    algorithm = entry.get("alg")
    if algorithm is None:
        return {}
    if not isinstance(algorithm, str) or algorithm not in allowed:
        raise _Unusable(f"its alg is none of {', '.join(sorted(allowed))}")
    return {"alg": algorithm}


def _bytes(entry: Mapping[str, Any], member: str) -> bytes:
    """Base64url, padded or not: some issuers pad, against RFC 7515."""
    value = entry.get(member)
    if not isinstance(value, str):
        raise _Unusable(f"no {member}")
    value = value.rstrip("=")
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _Unusable(f"{member} is not base64url") from None


def _integer(entry: Mapping[str, Any], member: str) -> int:
    return int.from_bytes(_bytes(entry, member), "big")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _text(number: int, size: int | None = None) -> str:
    return _encoded(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


NO_KEYS: Final = KeySet(
    '{"keys":[{"alg":"ES256","crv":"P-256","kid":"isthmus-no-keys","kty":"EC",'
    '"x":"N7UJMkdLkEfX99ZnVmWNjnolDAdlH0gTRjpYa_2D9XA","y":"mSnx_uie8F3Otdv1gtpBPVVCWnUG7Ig_jq0kkidDZmo"}]}',
    ("isthmus-no-keys",),
)
"""For an issuer whose keys are not known: Envoy refuses every token (401). It does not take an empty set at all.

Nobody can sign for it: the point was found by hashing (SHA-256 of ``isthmus no keys`` and a counter, until it is the x
of a point of P-256; the even y), so that no private key to it was ever known.
"""
