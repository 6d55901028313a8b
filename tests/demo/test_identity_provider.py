from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from isthmus.demo.identity_provider import Denied, grant
from isthmus.jwks.fetch import HttpFetcher, trust
from isthmus.jwks.signing import new_signing_key, public_key_set
from isthmus.jwks.source import JwksSource
from tests.demo.running import Program


@pytest.fixture(scope="module")
def provider() -> Iterator[Program]:
    with Program("isthmus.demo.identity_provider") as running:
        yield running


def token(provider: Program, auth: tuple[str, str] | None = None, **form: str) -> httpx.Response:
    return httpx.post(f"{provider.url}/token", data=form, auth=auth, trust_env=False)


def claims(provider: Program, access_token: str) -> dict[str, object]:
    """Verified with what the provider publishes, found by discovery."""
    discovery = httpx.get(f"{provider.url}/.well-known/openid-configuration", trust_env=False).json()
    keys = KeySet.import_key_set(httpx.get(discovery["jwks_uri"], trust_env=False).json())
    verified = jwt.decode(access_token, keys, algorithms=["RS256"])
    assert verified.header["kid"]
    return dict(verified.claims)


def test_discovery_says_who_and_where(provider: Program) -> None:
    found = httpx.get(f"{provider.url}/.well-known/openid-configuration", trust_env=False).json()
    assert found["issuer"] == provider.url
    assert found["token_endpoint"] == f"{provider.url}/token"
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
    assert {"response_types_supported", "subject_types_supported"} <= found.keys()


async def test_the_control_plane_finds_the_keys(provider: Program) -> None:
    keys = await HttpFetcher(trust()).fetch(JwksSource(provider.url, None))
    assert len(keys.key_ids) == 1
    assert not keys.dropped


def test_only_public_keys_are_published(provider: Program) -> None:
    (key,) = httpx.get(f"{provider.url}/jwks", trust_env=False).json()["keys"]
    assert key.keys() == {"kty", "kid", "alg", "n", "e"}


def test_a_person_gets_a_token(provider: Program) -> None:
    answer = token(provider, grant_type="password", username="alice", password="alice")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, "orders:read")
    found = claims(provider, body["access_token"])
    assert found["exp"] == found["iat"] + 3600  # type: ignore[operator]
    assert abs(float(str(found["iat"])) - time.time()) < 60
    assert len(str(found["jti"])) == 36
    assert {name: found[name] for name in ("iss", "sub", "aud", "scope", "role", "name")} == {
        "iss": provider.url,
        "sub": "alice",
        "aud": "shop",
        "scope": "orders:read",
        "role": "customer",
        "name": "Alice Moreau",
    }


def test_a_token_each_time_a_new_one(provider: Program) -> None:
    first, second = (token(provider, grant_type="password", username="bob", password="bob").json() for _ in range(2))
    assert claims(provider, first["access_token"])["jti"] != claims(provider, second["access_token"])["jti"]


def test_a_program_gets_a_token_by_either_way_to_authenticate(provider: Program) -> None:
    name = "nightly-report"
    in_form = token(provider, grant_type="client_credentials", client_id=name, client_secret=name)
    in_header = token(provider, (name, name), grant_type="client_credentials")
    assert claims(provider, in_form.json()["access_token"])["sub"] == name
    assert claims(provider, in_header.json()["access_token"])["role"] == "staff"


def test_fewer_scopes_on_request(provider: Program) -> None:
    answer = token(provider, grant_type="password", username="admin", password="admin", scope="orders:write")
    assert claims(provider, answer.json()["access_token"])["scope"] == "orders:write"


@pytest.mark.parametrize(
    ("form", "basic", "error"),
    [
        ({}, None, "invalid_request"),
        ({"grant_type": "implicit"}, None, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "alice", "password": "bob"}, None, "invalid_grant"),
        ({"grant_type": "password", "username": "mallory", "password": "mallory"}, None, "invalid_grant"),
        ({"grant_type": "password", "username": "nightly-report", "password": "nightly-report"}, None, "invalid_grant"),
        ({"grant_type": "client_credentials"}, None, "invalid_client"),
        ({"grant_type": "client_credentials"}, ("nightly-report", "é"), "invalid_client"),
        (
            {"grant_type": "password", "username": "alice", "password": "alice", "scope": "orders:write"},
            None,
            "invalid_scope",
        ),
    ],
)
def test_what_is_not_granted(form: dict[str, str], basic: tuple[str, str] | None, error: str) -> None:
    with pytest.raises(Denied) as denied:
        grant(form, basic)
    assert denied.value.error == error


def test_a_denial_is_told_as_oauth_wants_it(provider: Program) -> None:
    wrong = token(provider, ("nightly-report", "x"), grant_type="client_credentials")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"] == "Basic"
    as_json = httpx.post(f"{provider.url}/token", json={"grant_type": "password"}, trust_env=False)
    assert (as_json.status_code, as_json.json()["error"]) == (400, "invalid_request")
    twice = httpx.post(
        f"{provider.url}/token",
        content="grant_type=password&grant_type=password",
        headers={"content-type": "application/x-www-form-urlencoded"},
        trust_env=False,
    )
    assert twice.status_code == 400


def test_the_key_is_kept_in_a_file(tmp_path: Path) -> None:
    key = new_signing_key()
    (tmp_path / "key.pem").write_bytes(key.pem())
    env = {"KEY_FILE": str(tmp_path / "key.pem"), "ISSUER": "https://id.example.com/"}
    with Program("isthmus.demo.identity_provider", **env) as running:
        assert httpx.get(f"{running.url}/jwks", trust_env=False).text == public_key_set(key).text
        found = httpx.get(f"{running.url}/.well-known/openid-configuration", trust_env=False).json()
    assert found["jwks_uri"] == "https://id.example.com/jwks"
