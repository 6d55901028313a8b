from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from isthmus.jwks.signing import SigningKey, mint, new_signing_key, parse_claim, public_key_set, read_signing_key

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@cache
def signing_key() -> SigningKey:
    return new_signing_key()


def token(**changes: Any) -> str:
    wanted: dict[str, Any] = {
        "issuer": "https://issuer.example",
        "subject": "ann",
        "audiences": [],
        "claims": {},
        "expires_in": timedelta(hours=1),
        "now": NOW,
    }
    return mint(signing_key(), **wanted | changes)


def verified(text: str) -> jwt.Token:
    keys = KeySet.import_key_set(json.loads(public_key_set(signing_key()).text))
    return jwt.decode(text, keys, algorithms=["RS256"])


def test_a_token_is_verified_by_the_public_keys_and_found_by_its_kid() -> None:
    found = verified(token())
    assert found.header == {"typ": "JWT", "alg": "RS256", "kid": signing_key().thumbprint}
    issued = int(NOW.timestamp())
    assert found.claims == {"iss": "https://issuer.example", "sub": "ann", "iat": issued, "exp": issued + 3600}


@pytest.mark.parametrize(
    ("audiences", "aud"), [([], None), (["a"], "a"), (["a", "b"], ["a", "b"])], ids=["none", "one", "two"]
)
def test_audiences(audiences: list[str], aud: object) -> None:
    assert verified(token(audiences=audiences)).claims.get("aud") == aud


def test_claims_win_and_a_subject_may_be_missing() -> None:
    claims = verified(token(subject=None, claims={"exp": 1, "groups": ["a"], "nested": {"b": True}})).claims
    assert (claims["exp"], claims["groups"], claims["nested"]) == (1, ["a"], {"b": True})
    assert "sub" not in claims


def test_the_public_set_is_public_and_its_kid_the_thumbprint_of_rfc_7638() -> None:
    keys = public_key_set(signing_key())
    assert keys.key_ids == (signing_key().thumbprint,)
    assert '"d"' not in keys.text
    public = signing_key().private.public_key()
    assert RSAKey.import_key(public).thumbprint() == signing_key().thumbprint


def test_a_key_survives_writing_and_is_not_shown() -> None:
    key = signing_key()
    again = read_signing_key(key.pem())
    assert again.thumbprint == key.thumbprint
    assert again.private.private_numbers() == key.private.private_numbers()
    assert repr(key) == str(key) == f"SigningKey(thumbprint='{key.thumbprint}')"


@pytest.mark.parametrize(
    "pem", [b"", b"text", ECKey.generate_key("P-256").as_pem(private=True)], ids=["empty", "text", "EC"]
)
def test_what_is_no_rsa_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):
        read_signing_key(pem)


def test_a_public_key_is_refused() -> None:
    public = signing_key().private.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    with pytest.raises(ValueError):
        read_signing_key(public.public_bytes(serialization.Encoding.PEM, form))


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("role=api-user", "role", "api-user"),
        ("admin=true", "admin", True),
        ("level=3", "level", 3),
        ("level=-1.5", "level", -1.5),
        ('level="3"', "level", "3"),
        ('groups=["a","b"]', "groups", ["a", "b"]),
        ('a={"b":null}', "a", {"b": None}),
        ("scope=orders:read orders:write", "scope", "orders:read orders:write"),
        ("query=a=b", "query", "a=b"),
        ("empty=", "empty", ""),
        ("https://example.com/role=x", "https://example.com/role", "x"),
        ("word=NaN", "word", "NaN"),
        ("word=-Infinity", "word", "-Infinity"),
        ("open=[1", "open", "[1"),
        ("zip=007", "zip", "007"),
        ("nothing=null", "nothing", None),
    ],
)
def test_a_claims_value_is_json_where_it_is_json(text: str, name: str, value: object) -> None:
    found = parse_claim(text)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize("text", ["", "role", "=value"])
def test_a_claim_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=VALUE"):
        parse_claim(text)
