from __future__ import annotations

import json

import pytest

from isthmus.errors import JwksUnavailable
from isthmus.jwks.provider import endpoint_problem, read_provider
from isthmus.model.oidc import ProviderEndpoints

ISSUER = "https://login.example.com"
TRUE = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": "https://tokens.example.net/token",
    "end_session_endpoint": f"{ISSUER}/end",
}


def test_reads_the_endpoints() -> None:
    expected = ProviderEndpoints(f"{ISSUER}/authorize", "https://tokens.example.net/token", f"{ISSUER}/end")
    assert read_provider(json.dumps(TRUE), ISSUER) == expected
    without = {name: value for name, value in TRUE.items() if name != "end_session_endpoint"}
    assert read_provider(json.dumps(without), ISSUER).end_session is None


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"issuer": "https://evil.example.com"}, "another issuer"),
        ({"token_endpoint": "http://login.example.com/token"}, "token_endpoint .* is not https"),
        ({"token_endpoint": None}, "no token_endpoint"),
        ({"token_endpoint": ["https://a.example.com"]}, "no token_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "is not a URL of a host"),
        ({"authorization_endpoint": "https://login.example.com\\@evil.example.com/"}, "is not a URL"),
        ({"authorization_endpoint": "https://u:p@login.example.com/"}, "without user"),
        ({"authorization_endpoint": "https://login.example.com/#x"}, "fragment"),
        ({"end_session_endpoint": "https://login.example.com/\r\nx: y"}, "is not a URL"),
        ({"end_session_endpoint": "ftp://login.example.com/"}, "is not https"),
        ({"token_endpoint": "https://login.example.com:99999/"}, "is not a URL"),
        ({"token_endpoint": "https://" + "a" * 3000}, "is not a URL"),
        ({"response_types_supported": ["id_token"]}, "no code flow"),
        ({"response_types_supported": "code"}, "not a list"),
        ({"code_challenge_methods_supported": ["plain"]}, "no PKCE"),
    ],
)
def test_refuses_a_document_that_lies(lie: dict[str, object], reason: str) -> None:
    with pytest.raises(JwksUnavailable, match=reason):
        read_provider(json.dumps(TRUE | lie), ISSUER)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "localhost", "a.localhost", "2130706433", "127.1"]
)
def test_a_public_issuer_leads_to_no_private_network(host: str) -> None:
    assert endpoint_problem(f"https://{host}/token", ISSUER) is not None


def test_an_issuer_of_this_machine_may_be_there() -> None:
    assert endpoint_problem("http://localhost:1234/token", "http://127.0.0.1:1234") is None
    assert endpoint_problem("https://10.0.0.1/token", "https://10.0.0.2") is None
    assert endpoint_problem("http://login.example.com/token", "http://localhost:1") == "is not https"


@pytest.mark.parametrize("text", ["<html>", "[]", "null", "{", '"text"'])
def test_refuses_what_is_no_document(text: str) -> None:
    with pytest.raises(JwksUnavailable):
        read_provider(text, ISSUER)
