"""JWT-SVIDs: made by the keys of the control plane, checked by anybody with the trust domain's bundle. No IO, no clock.

Source: SPIFFE JWT-SVID, sections 2 to 5; RFC 7515, 7518, 7519.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from isthmus.errors import SpiffeIdInvalid, SvidInvalid
from isthmus.identity.spiffe_id import SpiffeId

DEFAULT_TTL = timedelta(minutes=5)
MIN_TTL = timedelta(seconds=10)
MAX_TTL = timedelta(hours=24)
MAX_AUDIENCES = 32
MAX_BYTES = 16 * 1024
"""Of a token that somebody shows us."""
_ALGORITHM: Final = "ES256"
_ALGORITHMS: Final = [f"{kind}{bits}" for kind in ("RS", "ES", "PS") for bits in (256, 384, 512)]
"""The only ones that the standard allows: none, and no shared secrets."""
_TYPES: Final = (None, "JWT", "JOSE")


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A P-256 key that signs JWT-SVIDs. ``kid``: its thumbprint (RFC 7638, SHA-256); the repr shows no more."""

    private: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    kid: str
    made: datetime
    expires: datetime

    @classmethod
    def new(cls, made: datetime, life: timedelta) -> JwtKey:
        return cls.of(ec.generate_private_key(ec.SECP256R1()), made, made + life)

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey, made: datetime, expires: datetime) -> JwtKey:
        return cls(private, ECKey.import_key(_public(private)).thumbprint(), made, expires)

    @property
    def public_jwk(self) -> str:
        """What verifies it: a JWK with its ``kid``, as JSON in one canonical form."""
        found = {**ECKey.import_key(_public(self.private)).as_dict(private=False), "kid": self.kid}
        return json.dumps(found, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """``token``: the compact form; a bearer's secret, so no repr shows it. ``claims``: all of its payload."""

    spiffe_id: SpiffeId
    expires: datetime
    claims: Mapping[str, Any]
    token: str = field(repr=False)


def mint(key: JwtKey, spiffe_id: SpiffeId, audiences: Sequence[str], ttl: timedelta, now: datetime) -> JwtSvid:
    """A JWT-SVID for ``audiences`` (1 to 32), of ``ttl`` (brought between 10 s and 24 h), at most as long as its key.

    Raises SvidInvalid: no audience, an empty one or too many, an identity without a path, or a key that has ended.
    """
    if not 0 < len(audiences) <= MAX_AUDIENCES or not all(audiences):
        raise SvidInvalid(f"a JWT-SVID is for 1 to {MAX_AUDIENCES} audiences, none of them empty")
    if not spiffe_id.path:
        raise SvidInvalid(f"{spiffe_id} is a trust domain, not a workload")
    expires = min(now + min(max(ttl, MIN_TTL), MAX_TTL), key.expires).replace(microsecond=0)
    if expires <= now:
        raise SvidInvalid("the key for JWT-SVIDs has ended")
    claims = {
        "sub": spiffe_id.uri,
        "aud": list(dict.fromkeys(audiences)),
        "exp": int(expires.timestamp()),
        "iat": int(now.timestamp()),
    }
    header = {"alg": _ALGORITHM, "kid": key.kid, "typ": "JWT"}
    token = jwt.encode(header, claims, ECKey.import_key(key.private), algorithms=[_ALGORITHM])
    return JwtSvid(spiffe_id, expires, claims, token)


def read_unverified(token: str) -> JwtSvid:
    """What a token says, unproved: for whoever got it from the authority itself. Raises SvidInvalid: unreadable."""
    _, claims = _parts(token)
    return JwtSvid(_subject(claims), _expires(claims), claims, token)


def validate(token: str, audience: str, bundles: Mapping[str, Iterable[str]], now: datetime) -> JwtSvid:
    """A token that was shown to ``audience``, proved by the keys (public JWKs) of its subject's own trust domain.

    ``bundles``: by trust domain; never one for the other. Raises SvidInvalid, which says what is wrong.
    """
    if not audience:
        raise SvidInvalid("no audience to check the token against")
    header, unproved = _parts(token)
    spiffe_id = _subject(unproved)
    if spiffe_id.trust_domain not in bundles:
        raise SvidInvalid(f"no bundle of the trust domain {spiffe_id.trust_domain}")
    key = _key(header.get("kid"), bundles[spiffe_id.trust_domain])
    try:
        claims = jwt.decode(token, key, algorithms=_ALGORITHMS).claims
    except (JoseError, ValueError, TypeError) as wrong:
        raise SvidInvalid(f"the signature does not hold: {wrong}") from wrong
    expires = _expires(claims)
    if expires <= now:
        raise SvidInvalid(f"it has expired at {expires.isoformat()}")
    not_before = claims.get("nbf")
    if not_before is not None and (not _is_time(not_before) or not_before > now.timestamp()):
        raise SvidInvalid("it is not valid yet")
    audiences = claims.get("aud")
    listed = audiences if isinstance(audiences, list) else [audiences]
    if audience not in listed:
        raise SvidInvalid(f"it is not for the audience {audience[:200]!r}")
    return JwtSvid(spiffe_id, expires, claims, token)


def _parts(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and payload, their form checked. Raises SvidInvalid."""
    if len(token) > MAX_BYTES:
        raise SvidInvalid(f"a token has at most {MAX_BYTES} bytes")
    try:
        found = jws.extract_compact(token.encode("ascii"))
        claims = json.loads(found.payload)
    except (JoseError, ValueError, binascii.Error, RecursionError):
        raise SvidInvalid("not a JWT in compact form") from None
    header = found.headers()
    if header.get("alg") not in _ALGORITHMS:
        raise SvidInvalid(f"the algorithm {str(header.get('alg'))[:40]!r} is not one of {', '.join(_ALGORITHMS)}")
    if header.get("typ") not in _TYPES:
        raise SvidInvalid("the type of a JWT-SVID is JWT or JOSE")
    if not isinstance(claims, dict):
        raise SvidInvalid("not a JWT: its payload is no object")
    return header, claims


def _subject(claims: Mapping[str, Any]) -> SpiffeId:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise SvidInvalid("a JWT-SVID has a subject")
    try:
        spiffe_id = SpiffeId.parse(subject)
    except SpiffeIdInvalid as invalid:
        raise SvidInvalid(str(invalid)) from invalid
    if not spiffe_id.path:
        raise SvidInvalid(f"{spiffe_id} is a trust domain, not a workload")
    return spiffe_id


def _expires(claims: Mapping[str, Any]) -> datetime:
    if not _is_time(claims.get("exp")):
        raise SvidInvalid("a JWT-SVID says when it expires")
    try:
        return datetime.fromtimestamp(claims["exp"], tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise SvidInvalid("it expires at no time that there is") from None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(kid: object, keys: Iterable[str]) -> ECKey | RSAKey:
    """The key of that name. Raises SvidInvalid: none, or none that can be read."""
    if not isinstance(kid, str) or not kid:
        raise SvidInvalid("it does not name its key (kid)")
    for text in keys:
        entry = json.loads(text)
        if entry.get("kid") == kid:
            try:
                return ECKey.import_key(entry) if entry.get("kty") == "EC" else RSAKey.import_key(entry)
            except (JoseError, ValueError, KeyError, TypeError) as wrong:
                raise SvidInvalid("the bundle's key cannot be read") from wrong
    raise SvidInvalid(f"no key {kid[:100]!r} in the bundle of its trust domain")


def _public(private: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form)
