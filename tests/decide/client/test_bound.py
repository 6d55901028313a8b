from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.decide.client.bound import is_bound, is_bound_at_all, thumbprint
from tests.real.pki import Authority

CHAIN = Authority("clients").issue("client.example.com").chain.decode()
LEAF = x509.load_pem_x509_certificates(CHAIN.encode())[0]
WRITTEN = quote(CHAIN)
PRINT = base64.urlsafe_b64encode(hashlib.sha256(LEAF.public_bytes(Encoding.DER)).digest()).rstrip(b"=").decode()


def test_the_thumbprint_is_that_of_the_leaf_as_rfc_8705_has_it() -> None:
    assert thumbprint(WRITTEN) == PRINT
    assert len(PRINT) == 43


@pytest.mark.parametrize(
    "nothing",
    ["", "%", "-----BEGIN CERTIFICATE-----", quote("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----")],
)
def test_what_is_no_certificate_has_none(nothing: str) -> None:
    assert thumbprint(nothing) is None
    assert not is_bound({"cnf": {"x5t#S256": PRINT}}, nothing)


def test_only_the_very_certificate_will_do() -> None:
    assert is_bound({"cnf": {"x5t#S256": PRINT}}, WRITTEN)
    assert is_bound({"cnf": {"x5t#S256": f"{PRINT}="}}, WRITTEN)
    other = quote(Authority("clients").issue("client.example.com").chain.decode())
    assert not is_bound({"cnf": {"x5t#S256": PRINT}}, other)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"cnf": None},
        {"cnf": PRINT},
        {"cnf": [PRINT]},
        {"cnf": {}},
        {"cnf": {"x5t#S256": [PRINT]}},
        {"cnf": {"x5t": PRINT}},
        {"cnf": {"x5t#S256": PRINT.lower()}},
        {"cnf": {"x5t#S256": PRINT, "jkt": "another proof"}},
    ],
)
def test_whatever_else_is_not_bound(claims: dict[str, object]) -> None:
    assert not is_bound(claims, WRITTEN)


def test_a_token_that_asks_for_any_proof_is_bound_to_something() -> None:
    assert is_bound_at_all({"cnf": {"jkt": "x"}})
    assert not is_bound_at_all({"sub": "alice"})
