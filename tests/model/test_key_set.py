from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey

from isthmus.errors import JwksUnavailable
from isthmus.model.key_set import NO_KEYS, read_key_set
from tests.jwks.keys import jwk, jwks, key

GOOD = "rsa-1"


def integer(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode().rstrip("=")


def number(name: str, member: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(jwk(name)[member] + "=="), "big")


@pytest.mark.parametrize("name", [GOOD, "P-256", "P-384", "P-521", "Ed25519"])
def test_keeps_a_public_signing_key_whole(name: str) -> None:
    found = read_key_set(jwks(jwk(name, use="sig", key_ops=["verify"], x5t="thumb", x5c=["chain"])))
    assert found.key_ids == (name,)
    assert found.dropped == ()
    assert json.loads(found.text) == {"keys": [jwk(name)]}, "what verification needs, and nothing else"


def test_equal_keys_are_equal_sets_however_they_are_written() -> None:
    one, other = jwk(GOOD), jwk("P-256")
    written = jwks(one, other)
    shuffled = json.dumps(
        {"more": 1, "keys": [dict(reversed(other.items())), one | {"n": one["n"] + "=="}, one]}, indent=3
    )
    assert read_key_set(written) == read_key_set(shuffled)
    assert hash(read_key_set(written)) == hash(read_key_set(shuffled))
    assert read_key_set(written) != read_key_set(jwks(one))


def test_a_left_out_key_does_not_make_the_set_another() -> None:
    assert read_key_set(jwks(jwk(GOOD), jwk("Ed448"))) == read_key_set(jwks(jwk(GOOD)))


def test_a_leading_zero_of_a_coordinate_is_kept_and_one_too_many_is_not() -> None:
    x = base64.urlsafe_b64decode(jwk("P-256")["x"] + "==")
    padded = base64.urlsafe_b64encode(bytes(8) + x).decode().rstrip("=")
    assert read_key_set(jwks(jwk("P-256", x=padded))) == read_key_set(jwks(jwk("P-256")))


def test_the_new_name_of_the_ed25519_algorithm_becomes_the_one_envoy_knows() -> None:
    found = read_key_set(jwks(jwk("Ed25519", alg="Ed25519")))
    assert json.loads(found.text)["keys"][0]["alg"] == "EdDSA"


def test_a_key_without_kid_is_kept() -> None:
    found = read_key_set(jwks(jwk(GOOD, kid=None), jwk("P-256")))
    assert found.key_ids == ("P-256",)
    assert len(json.loads(found.text)["keys"]) == 2


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "text": ("key", "key number 1: not an object"),
    "symmetric": (jwk("oct"), "key 'oct': a symmetric key"),
    "symmetric, named RSA": (jwk(GOOD, k="c2VjcmV0"), "a symmetric key"),
    "no type": ({"kid": "a"}, "a key type (kty) other than"),
    "for encryption": (jwk("rsa-2", use="enc"), "not for signatures"),
    "for encrypting": (jwk(GOOD, key_ops=["encrypt"]), "not for verifying"),
    "operations no list": (jwk(GOOD, key_ops="verify"), "not for verifying"),
    "kid a number": (jwk(GOOD, kid=5), "key number 1: its kid is not text"),
    "kid a lone surrogate": (jwk(GOOD, kid="\ud800"), "its kid is not text"),
    "RSA for encryption": (jwk(GOOD, alg="RSA-OAEP"), "its alg is none of PS256"),
    "RSA that says HMAC": (jwk(GOOD, alg="HS256"), "its alg is none of PS256"),
    "RSA alg a number": (jwk(GOOD, alg=1), "its alg is none of PS256"),
    "RSA too small": (jwk(GOOD, n=integer((1 << 2046) + 1)), "an RSA key of 2047 bits"),
    "RSA too large": (jwk(GOOD, n=integer((1 << 16384) + 1)), "an RSA key of 16385 bits"),
    "RSA even": (jwk(GOOD, n=integer(number(GOOD, "n") - 1)), "n is even"),
    "RSA exponent 1": (jwk(GOOD, e="AQ"), "e is neither 3 nor 65537"),
    "RSA without n": (jwk(GOOD, n=None), "no n"),
    "RSA n no base64": (jwk(GOOD, n="*"), "n is not base64url"),
    "RSA n not ASCII": (jwk(GOOD, n="ä"), "n is not base64url"),
    "RSA n cut": (jwk(GOOD, n="A"), "n is not base64url"),
    "EC of Bitcoin": (jwk("secp256k1"), "a curve (crv) other than P-256"),
    "EC without curve": (jwk("P-256", crv=None), "a curve (crv) other than P-256"),
    "EC curve a list": (jwk("P-256", crv=[]), "a curve (crv) other than P-256"),
    "EC of another algorithm": (jwk("P-256", alg="ES384"), "its alg is none of ES256"),
    "EC off its curve": (jwk("P-256", y=jwk("P-256")["x"]), "not a point of P-256"),
    "EC at infinity": (jwk("P-256", x="AA", y="AA"), "not a point of P-256"),
    "Ed448": (jwk("Ed448"), "a curve (crv) other than Ed25519"),
    "X25519": (jwk("X25519"), "a curve (crv) other than Ed25519"),
    "Ed25519 cut": (jwk("Ed25519", x="AAAA"), "an Ed25519 key of 3 bytes"),
    "Ed25519 of another algorithm": (jwk("Ed25519", alg="ES256"), "its alg is none of Ed25519, EdDSA"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_leaves_out_what_envoy_cannot_or_must_not_use(name: str) -> None:
    entry, reason = LEFT_OUT[name]
    with pytest.raises(JwksUnavailable, match="no usable key") as alone:
        read_key_set(jwks(entry))
    assert reason in str(alone.value)
    beside = read_key_set(jwks(entry, jwk("P-384")))
    assert beside.key_ids == ("P-384",), "its neighbour is spared"
    (said,) = beside.dropped
    assert reason in said


@pytest.mark.parametrize("name", [GOOD, "P-256", "Ed25519"])
def test_a_private_key_spoils_the_whole_set_and_is_not_quoted(name: str) -> None:
    private = key(name).as_dict(private=True)
    with pytest.raises(JwksUnavailable, match="contains a private key") as refused:
        read_key_set(jwks(jwk("P-384"), private))
    assert private["d"] not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("<html>", "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"keys":[' + "9" * 5000 + "]}", "not JSON"),
        ("[]", 'no list "keys"'),
        ("{}", 'no list "keys"'),
        ('{"keys":{}}', 'no list "keys"'),
        ('{"keys":[]}', "no usable key"),
    ],
)
def test_says_plainly_what_is_no_key_set(text: str | bytes, reason: str) -> None:
    with pytest.raises(JwksUnavailable, match=f"^{reason}$"):
        read_key_set(text)


def test_the_reason_for_no_usable_key_names_only_a_few_of_many() -> None:
    with pytest.raises(JwksUnavailable) as refused:
        read_key_set(jwks(*(jwk("Ed448", kid=f"{n}" * 500) for n in range(9))))
    assert len(str(refused.value)) < 500


def test_a_key_set_reads_back_as_itself() -> None:
    found = read_key_set(jwks(jwk(GOOD), jwk("P-521"), jwk("Ed25519", kid="schlüssel")))
    assert read_key_set(found.text) == found
    assert found.text.isascii()


def test_no_keys_is_a_key_whose_private_half_nobody_ever_had() -> None:
    """Found from a phrase, as its docstring says: choosing it by its private key was not possible."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    for counter in range(100):
        x = int.from_bytes(hashlib.sha256(f"isthmus no keys {counter}".encode()).digest(), "big")
        square = (x**3 - 3 * x + b) % prime
        y = pow(square, (prime + 1) // 4, prime)
        if x < prime and y * y % prime == square:
            break
    (fake,) = json.loads(NO_KEYS.text)["keys"]
    assert fake["x"] == integer(x)
    assert fake["y"] == integer(y if y % 2 == 0 else prime - y)
    assert read_key_set(NO_KEYS.text) == NO_KEYS
    assert not ECKey.import_key(fake).is_private
