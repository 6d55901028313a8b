from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from isthmus.errors import SvidInvalid
from isthmus.identity.jwt_svid import MAX_BYTES, JwtKey, mint, read_unverified, validate
from isthmus.identity.spiffe_id import SpiffeId
from tests.identity.making import DOMAIN, HOUR, NOW

WEB = SpiffeId.workload(DOMAIN, "shop", "web")
KEY = JwtKey.new(NOW, 24 * HOUR)
BUNDLES = {DOMAIN: (KEY.public_jwk,)}


def token(header: dict[str, Any] | None = None, key: Any = None, algorithm: str = "ES256", **claims: Any) -> str:
    """A token that says what it is told to; None takes a claim out."""
    said = {"sub": WEB.uri, "aud": ["vault"], "exp": NOW.timestamp() + 60} | claims
    given = {"alg": algorithm, "kid": KEY.kid, "typ": "JWT"} | (header or {})
    kept = {name: value for name, value in given.items() if value is not None}
    payload = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(kept, payload, key or ECKey.import_key(KEY.private), algorithms=[algorithm])


def test_what_is_minted_is_valid_for_its_audiences() -> None:
    made = mint(KEY, WEB, ("vault", "bank", "vault"), timedelta(minutes=5), NOW)
    for audience in ("vault", "bank"):
        found = validate(made.token, audience, BUNDLES, NOW)
        assert (found.spiffe_id, found.expires) == (WEB, NOW + timedelta(minutes=5))
    assert made.claims["aud"] == ["vault", "bank"]
    assert read_unverified(made.token).expires == made.expires


def test_it_never_outlives_its_key() -> None:
    late = KEY.expires - timedelta(seconds=30)
    assert mint(KEY, WEB, ("a",), HOUR, late).expires == KEY.expires
    with pytest.raises(SvidInvalid, match="ended"):
        mint(KEY, WEB, ("a",), HOUR, KEY.expires)


@pytest.mark.parametrize("audiences", [(), ("",), tuple(str(number) for number in range(33))])
def test_audiences_are_needed(audiences: tuple[str, ...]) -> None:
    with pytest.raises(SvidInvalid, match="audiences"):
        mint(KEY, WEB, audiences, HOUR, NOW)


def test_a_trust_domain_is_nobody() -> None:
    with pytest.raises(SvidInvalid, match="not a workload"):
        mint(KEY, SpiffeId(DOMAIN), ("a",), HOUR, NOW)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (token(exp=NOW.timestamp() - 1), "expired"),
        (token(exp=None), "expires"),
        (token(exp="tomorrow"), "expires"),
        (token(exp=True), "expires"),
        (token(nbf=NOW.timestamp() + 10), "not valid yet"),
        (token(aud=["bank"]), "audience"),
        (token(aud=None), "audience"),
        (token(aud=7), "audience"),
        (token(aud={"vault": 1}), "audience"),
        (token(sub=None), "subject"),
        (token(sub="web"), "SPIFFE ID"),
        (token(sub="spiffe://cluster.local"), "not a workload"),
        (token(sub="spiffe://other.example/ns/shop/sa/web"), "no bundle of the trust domain other.example"),
        (token({"kid": None}), "kid"),
        (token({"kid": "unknown"}), "no key"),
        (token({"typ": "at+jwt"}), "type"),
        (token(key=RSAKey.generate_key(2048), algorithm="RS256"), "signature"),
        (token(key=ECKey.generate_key("P-256")), "signature"),
        (token(key=OctKey.import_key(KEY.public_jwk.encode()), algorithm="HS256"), "algorithm"),
        ("eyJhbGciOiJub25lIn0.e30.", "algorithm"),
        ("a.b", "compact"),
        ("", "compact"),
        ("é.é.é", "compact"),
        ("a" * (MAX_BYTES + 1), "bytes"),
    ],
)
def test_what_is_refused(shown: str, reason: str) -> None:
    with pytest.raises(SvidInvalid, match=reason):
        validate(shown, "vault", BUNDLES, NOW)


@pytest.mark.parametrize("header", [{"typ": None}, {"typ": "JOSE"}])
def test_types_that_the_standard_allows(header: dict[str, Any]) -> None:
    assert validate(token(header), "vault", BUNDLES, NOW).spiffe_id == WEB


def test_one_trust_domain_s_key_proves_nothing_of_another() -> None:
    foreign = JwtKey.new(NOW, HOUR)
    bundles = {**BUNDLES, "other.example": (foreign.public_jwk,)}
    forged = token({"kid": foreign.kid}, key=ECKey.import_key(foreign.private))
    with pytest.raises(SvidInvalid, match="no key"):
        validate(forged, "vault", bundles, NOW)


def test_what_must_not_be_seen() -> None:
    made = mint(KEY, WEB, ("vault",), HOUR, NOW)
    assert made.token not in repr(made)
    assert '"d"' not in KEY.public_jwk
    assert json.loads(KEY.public_jwk)["kid"] == KEY.kid
    assert "private" not in repr(KEY)
