from __future__ import annotations

import json

import pytest

from isthmus.errors import JwksUnavailable
from isthmus.jwks.source import discovery_uri, read_discovery

ISSUER = "https://issuer.example"


@pytest.mark.parametrize(
    ("issuer", "uri"),
    [
        (ISSUER, "https://issuer.example/.well-known/openid-configuration"),
        (ISSUER + "/", "https://issuer.example/.well-known/openid-configuration"),
        (ISSUER + "/realms/a", "https://issuer.example/realms/a/.well-known/openid-configuration"),
        ("http://localhost:1", "http://localhost:1/.well-known/openid-configuration"),
    ],
)
def test_discovery_is_below_the_issuer(issuer: str, uri: str) -> None:
    assert discovery_uri(issuer) == uri


@pytest.mark.parametrize("issuer", ["", "testing@secure.example", "issuer.example", "file:///etc/passwd"])
def test_an_issuer_that_is_no_url_cannot_be_discovered(issuer: str) -> None:
    with pytest.raises(JwksUnavailable, match="the issuer is not a URL"):
        discovery_uri(issuer)


def test_reads_where_the_keys_are() -> None:
    assert read_discovery(json.dumps({"issuer": ISSUER, "jwks_uri": "https://keys.example/a"}), ISSUER) == (
        "https://keys.example/a"
    )


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("<html>", "not JSON"),
        ("[]", "not an object"),
        ("{}", "another issuer, None"),
        (
            json.dumps({"issuer": "https://evil.example", "jwks_uri": "https://e"}),
            "another issuer, 'https://evil.example'",
        ),
        (json.dumps({"issuer": ISSUER + "/", "jwks_uri": "https://e"}), "another issuer"),
        (json.dumps({"issuer": ISSUER}), "no jwks_uri"),
        (json.dumps({"issuer": ISSUER, "jwks_uri": ["https://e"]}), "no jwks_uri"),
    ],
)
def test_refuses_what_is_not_the_issuers_own_document(document: str, reason: str) -> None:
    with pytest.raises(JwksUnavailable, match=reason):
        read_discovery(document, ISSUER)
