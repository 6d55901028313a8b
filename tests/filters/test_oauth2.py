from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import tls_v3
from isthmus.filters.oauth2 import OAUTH2, OAuth2, OAuth2Login, cookie_name
from isthmus.model.client_authentication import ApiKeyMethod, ClientAuth
from isthmus.model.oidc import ForwardToken, ProviderEndpoints, SameSite
from tests.model.test_oidc import LOGIN

OFFERED = OAuth2Login(
    login=LOGIN,
    endpoints=ProviderEndpoints("https://login.example.com/a", "https://login.example.com/t", "https://login.example.com/e"),
    cluster="cluster",
    client_secret=tls_v3.SdsSecretConfig(name="secret"),
    cookie_key=tls_v3.SdsSecretConfig(name="key"),
    hosts=("shop.example.com",),
)  # fmt: skip


def built(offered: OAuth2Login) -> Any:
    assert OAUTH2.build_route is not None
    return OAUTH2.build_route(offered).config


def test_the_chain_sends_nobody_to_log_in() -> None:
    (message,) = OAUTH2.build(OAuth2())
    assert not unpack(message.typed_config).HasField("config")  # type: ignore[arg-type]


def test_secrets_come_by_name() -> None:
    config = built(OFFERED)
    assert (config.credentials.token_secret.name, config.credentials.hmac_secret.name) == ("secret", "key")
    assert config.token_endpoint.cluster == "cluster"
    assert list(config.allowed_redirect_domains) == ["shop.example.com"]
    assert not config.disable_token_encryption


def test_a_login_leads_somewhere_known() -> None:
    with pytest.raises(ValueError, match="may lead anywhere"):
        built(replace(OFFERED, hosts=()))


@pytest.mark.parametrize("forward", list(ForwardToken))
def test_the_access_token_is_kept_for_programs_that_are_sent_it(forward: ForwardToken) -> None:
    config = built(replace(OFFERED, login=replace(LOGIN, forward=forward)))
    access = forward is ForwardToken.ACCESS
    assert (config.forward_bearer_token, config.disable_access_token_set_cookie) == (access, not access)
    assert config.forward_id_token.header == LOGIN.header


def test_every_cookie_is_of_this_login_and_lax() -> None:
    config = built(OFFERED)
    names = [value for _, value in config.credentials.cookie_names.ListFields()]
    assert len(set(names)) == 7
    assert all(name.startswith(f"{LOGIN.cookies}-") for name in names)
    assert cookie_name(LOGIN, "id_token") in names
    kinds = type(config.cookie_configs.id_token_cookie_config).SameSite
    assert {one.same_site for _, one in config.cookie_configs.ListFields()} == {kinds.Value("LAX")}
    other = built(replace(OFFERED, login=replace(LOGIN, same_site=SameSite.NONE)))
    assert {one.same_site for _, one in other.cookie_configs.ListFields()} == {kinds.Value("NONE")}


def test_other_credentials_pass() -> None:
    others = ApiKeyMethod(("authorization", "x-api-key"), ("key.a",), ("k",))
    matchers = built(replace(OFFERED, others=others)).pass_through_matcher
    assert [one.name for one in matchers] == ["authorization", "x-api-key", ":path", "cookie"]
    assert matchers[0].string_match.prefix == "Bearer "
    assert matchers[2].string_match.safe_regex.regex == r"[^?#]*\?([^#]*&)?key\.a=[^#]*"
    assert not built(OFFERED).pass_through_matcher


def test_how_the_client_proves_itself() -> None:
    post = built(replace(OFFERED, login=replace(LOGIN, client_auth=ClientAuth.CLIENT_SECRET_POST)))
    kinds = type(post).AuthType
    assert (built(OFFERED).auth_type, post.auth_type) == (kinds.Value("BASIC_AUTH"), kinds.Value("URL_ENCODED_BODY"))


def test_no_refresh() -> None:
    config = built(replace(OFFERED, login=replace(LOGIN, refresh=False)))
    assert (config.use_refresh_token.value, config.disable_refresh_token_set_cookie) == (False, True)


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        (None, ""),
        ("/bye", "%REQ(x-forwarded-proto)%://%REQ(:authority)%/bye"),
        ("https://www.example.com/", "https://www.example.com/"),
    ],
)
def test_after_a_logout(written: str | None, uri: str) -> None:
    config = built(replace(OFFERED, login=replace(LOGIN, post_logout_redirect=written)))
    assert config.post_logout_redirect_uri.uri == uri
