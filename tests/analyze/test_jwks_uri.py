from __future__ import annotations

import pytest

from isthmus.analyze.jwks_uri import CHECK
from tests.analyze.manifest import ORDERS, found, tokens


def rule(*fields: str) -> list[str]:
    return found(CHECK, tokens("jwtRules:\n  - " + "\n    ".join(fields)), ORDERS)


def test_plain_http() -> None:
    assert rule("issuer: https://auth.example.com", "jwksUri: http://auth.example.com/jwks") == [
        '6 error ISM5007: the keys of "https://auth.example.com" are not fetched from http://auth.example.com/jwks: '
        "they come over https only"
    ]


def test_discovery_over_plain_http() -> None:
    assert rule("issuer: http://auth.example.com") == [
        '6 error ISM5007: the keys of "http://auth.example.com" are not fetched: they come over https only'
    ]


def test_an_issuer_that_is_no_url_cannot_be_asked() -> None:
    (only,) = rule("issuer: accounts@example.com")
    assert "the issuer must be a URL to discover them by" in only


@pytest.mark.parametrize(
    "fields",
    [
        ("issuer: https://auth.example.com",),
        ("issuer: accounts@example.com", "jwksUri: https://auth.example.com/jwks"),
        ("issuer: http://127.0.0.1:9000",),
        ("issuer: http://[::1]:9000",),
        ("issuer: http://idp.localhost:9000",),
    ],
)
def test_https_and_this_machine_are_good(fields: tuple[str, ...]) -> None:
    assert rule(*fields) == []


def test_the_error_stops_nothing() -> None:
    assert not CHECK.codes[0].stops, "the keys may be given with --jwks"
