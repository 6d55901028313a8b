from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.cli.running import Isthmus

ISSUER = "https://auth.example.com"


def claims(isthmus: Isthmus, *options: str) -> dict[str, Any]:
    """Of a token, verified with the keys that the same state gives out."""
    keys = KeySet.import_key_set(json.loads(isthmus("token", "--jwks", "--state", "state").out))
    ran = isthmus("token", "--issuer", ISSUER, "--state", "state", *options)
    assert (ran.code, ran.err) == (0, "")
    return dict(jwt.decode(ran.out.strip(), keys, algorithms=["RS256"]).claims)


def test_what_is_asked_for_is_in_it(isthmus: Isthmus) -> None:
    found = claims(
        isthmus, "--sub", "alice", "--aud", "shop", "--claim", "role=api-user", "--claim", 'groups=["a","b"]'
    )
    assert {name: found[name] for name in ("iss", "sub", "aud", "role", "groups")} == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "shop",
        "role": "api-user",
        "groups": ["a", "b"],
    }


@pytest.mark.parametrize(("written", "seconds"), [("10m", 600), ("-5m", -300)])
def test_how_long_it_is_good_for(isthmus: Isthmus, written: str, seconds: int) -> None:
    found = claims(isthmus, "--expires", written)
    assert found["exp"] - found["iat"] == seconds


def test_the_public_keys_hold_no_private_part(isthmus: Isthmus) -> None:
    (key,) = isthmus("token", "--jwks", "--state", "state").json["keys"]
    assert key["kty"] == "RSA"
    assert not {"d", "p", "q", "dp", "dq", "qi"} & key.keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Invalid value for --issuer: is required"),
        (("--issuer", ISSUER, "--expires", "soon"), 'Invalid value for --expires: "soon" is not a duration'),
        (("--issuer", ISSUER, "--claim", "role"), "Invalid value for --claim"),
    ],
)
def test_wrong_usage(isthmus: Isthmus, options: tuple[str, ...], said: str) -> None:
    ran = isthmus("token", "--state", "state", *options)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.said
