from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.model.oidc import OidcLogin, Provider, ProviderEndpoints, logins_of, provider_from_json, provider_to_json
from isthmus.model.policy import TokenHeader
from isthmus.model.world import World

LOGIN = OidcLogin(
    "shop",
    "web",
    "https://login.example.com",
    "client",
    "shop/secret",
    Origin(Ref("X", "shop", "web"), Source("f", 1, 1)),
)


@pytest.mark.parametrize("other", [{"namespace": "b"}, {"name": "b"}, {"issuer": "https://b"}, {"client_id": "b"}])
def test_no_two_logins_share_anything(other: dict[str, str]) -> None:
    changed = replace(LOGIN, **other)  # type: ignore[arg-type]
    assert changed.key != LOGIN.key
    assert changed.header != LOGIN.header
    assert changed.cookies != LOGIN.cookies
    assert replace(LOGIN, scopes=("openid", "email")).key == LOGIN.key


def test_id_tokens_are_for_the_client_and_come_from_the_login_alone() -> None:
    rule = LOGIN.rule
    assert (rule.issuer, rule.audiences, rule.from_headers) == (LOGIN.issuer, ("client",), (TokenHeader(LOGIN.header),))
    assert not rule.forward_original_token


def test_cookies_belong_to_the_host() -> None:
    assert LOGIN.cookies.startswith("__Host-isthmus-")
    assert replace(LOGIN, cookie_prefix="tenant").cookies == "__Host-tenant"


def test_what_is_written_down_is_not_learnt() -> None:
    learnt, written = ProviderEndpoints("a", "t"), ProviderEndpoints("A", "T", "E")
    world = World(providers={LOGIN.issuer: Provider(learnt)})
    assert world.endpoints_of(LOGIN) == learnt
    assert world.endpoints_of(replace(LOGIN, endpoints=written)) == written
    assert World().endpoints_of(LOGIN) is None


def test_endpoints_come_back_from_the_state() -> None:
    for endpoints in (ProviderEndpoints("a", "t"), ProviderEndpoints("a", "t", "e")):
        assert provider_from_json(provider_to_json(endpoints)) == endpoints
    with pytest.raises(KeyError):
        provider_from_json({})


def test_a_login_of_two_policies_is_one() -> None:
    policies = [SimpleNamespace(oidc=(LOGIN,)), SimpleNamespace(oidc=()), SimpleNamespace(oidc=(LOGIN,))]
    assert logins_of(policies) == (LOGIN,)
