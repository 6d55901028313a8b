"""Logins of browsers (OAuth 2.0 code flow with PKCE). Whoever has logged in is what the ID token says, which this
filter hands on in a header and does not verify itself: the token filter behind it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, matcher_v3, oauth2_v3, protobuf, route_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.model.client_authentication import ApiKeyMethod, ClientAuth
from isthmus.model.oidc import ForwardToken, OidcLogin, ProviderEndpoints, SameSite

NAME = "envoy.filters.http.oauth2"

NOWHERE = ApiKeyMethod()
_TOKEN_TIMEOUT = timedelta(seconds=5)
_LIFETIME = timedelta(hours=1)
"""Of an access token whose issuer does not say (RFC 6749 section 5.1: it should)."""
_COOKIES = ("bearer_token", "oauth_hmac", "oauth_expires", "id_token", "refresh_token", "oauth_nonce", "code_verifier")
_FLOW_COOKIES = ("oauth_nonce", "code_verifier")
"""They come back with a request that another site leads to, so they are Lax whatever the session's are."""


@dataclass(frozen=True, slots=True)
class OAuth2Login:
    """A login as one proxy offers it. ``cluster``: where the token endpoint is reached."""

    login: OidcLogin
    endpoints: ProviderEndpoints
    cluster: str
    client_secret: Any
    """An SdsSecretConfig, as ``cookie_key``: what the cookies are sealed and signed with."""
    cookie_key: Any
    hosts: tuple[str, ...]
    """To which a login may lead back; at least one, for none would mean all."""
    others: ApiKeyMethod = NOWHERE
    """Where other credentials may be that the same places take: who brings one is not sent to log in."""


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Nobody logs in, but where a route says so (:class:`OAuth2Login`)."""


def _build(config: OAuth2) -> tuple[Any, ...]:
    return (http_filter(NAME, oauth2_v3.OAuth2()),)


def _build_route(config: OAuth2Login) -> Any:
    return oauth2_v3.OAuth2PerRoute(config=_build_login(config))


def _build_login(offered: OAuth2Login) -> Any:
    login, endpoints = offered.login, offered.endpoints
    if not offered.hosts:
        raise ValueError(f"a login of {login.issuer} that may lead anywhere")
    here = "%REQ(x-forwarded-proto)%://%REQ(:authority)%"
    built = oauth2_v3.OAuth2Config(
        token_endpoint=core_v3.HttpUri(uri=endpoints.token, cluster=offered.cluster, timeout=duration(_TOKEN_TIMEOUT)),
        authorization_endpoint=endpoints.authorization,
        end_session_endpoint=endpoints.end_session or "",
        credentials=_credentials(offered),
        redirect_uri=f"{here}{login.redirect_path}",
        original_request_uri=here,
        redirect_path_matcher=_path(login.redirect_path),
        signout_path=_path(login.logout_path),
        auth_scopes=login.scopes,
        auth_type=_auth_type(login.client_auth),
        allowed_redirect_domains=offered.hosts,
        forward_bearer_token=login.forward is ForwardToken.ACCESS,
        forward_id_token=oauth2_v3.OAuth2TokenForwarding(header=login.header),
        # What nobody needs is not in the browser, though it is sealed there.
        disable_access_token_set_cookie=login.forward is not ForwardToken.ACCESS,
        use_refresh_token=protobuf.BoolValue(value=login.refresh),
        disable_refresh_token_set_cookie=not login.refresh,
        default_expires_in=duration(_LIFETIME),
        default_refresh_token_expires_in=duration(login.session),
        pass_through_matcher=list(_brings(offered.others)),
        deny_redirect_matcher=list(_cannot_follow()),
        cookie_configs=_cookie_configs(login.same_site),
        stat_prefix=f"{login.key}.",
    )
    if login.post_logout_redirect is not None and endpoints.end_session is not None:
        there = login.post_logout_redirect
        built.post_logout_redirect_uri.uri = f"{here}{there}" if there.startswith("/") else there
    return built


def _credentials(offered: OAuth2Login) -> Any:
    login = offered.login
    names = {name: cookie_name(login, name) for name in _COOKIES}
    return oauth2_v3.OAuth2Credentials(
        client_id=login.client_id,
        token_secret=offered.client_secret,
        hmac_secret=offered.cookie_key,
        cookie_names=oauth2_v3.OAuth2Credentials.CookieNames(**names),
    )


def cookie_name(login: OidcLogin, field: str) -> str:
    """``field``: as Envoy's CookieNames calls it."""
    return f"{login.cookies}-{field.replace('_', '-')}"


def _auth_type(how: ClientAuth) -> Any:
    kinds = oauth2_v3.OAuth2Config.AuthType
    return kinds.Value("BASIC_AUTH" if how is ClientAuth.CLIENT_SECRET_BASIC else "URL_ENCODED_BODY")


def _path(path: str) -> Any:
    return matcher_v3.PathMatcher(path=matcher_v3.StringMatcher(exact=path))


def _brings(others: ApiKeyMethod) -> Iterator[Any]:
    """Requests with such a credential. Any other ``Authorization`` than a bearer's is none."""
    for name in others.headers:
        if name == "authorization":
            bearer = matcher_v3.StringMatcher(prefix="Bearer ", ignore_case=True)
            yield route_v3.HeaderMatcher(name=name, string_match=bearer)
        else:
            yield route_v3.HeaderMatcher(name=name, present_match=True)
    for name in others.query:
        yield _holds(":path", rf"[^?#]*\?([^#]*&)?{re.escape(name)}=[^#]*")
    for name in others.cookies:
        yield _holds("cookie", rf"(.*;\s*)?{re.escape(name)}=.*")


def _holds(header: str, pattern: str) -> Any:
    regex = matcher_v3.RegexMatcher(regex=pattern)
    return route_v3.HeaderMatcher(name=header, string_match=matcher_v3.StringMatcher(safe_regex=regex))


def _cannot_follow() -> Iterable[Any]:
    """Requests of programs, and those whose body a redirect would lose: they are refused, not sent to log in."""
    yield route_v3.HeaderMatcher(
        name="accept",
        string_match=matcher_v3.StringMatcher(contains="text/html"),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    yield route_v3.HeaderMatcher(
        name=":method",
        string_match=matcher_v3.StringMatcher(safe_regex=matcher_v3.RegexMatcher(regex="GET|HEAD")),
        invert_match=True,
    )


def _cookie_configs(same_site: SameSite) -> Any:
    return oauth2_v3.CookieConfigs(**{f"{name}_cookie_config": one for name, one in _each_cookie(same_site)})


def _each_cookie(same_site: SameSite) -> Iterator[tuple[str, Any]]:
    kinds = oauth2_v3.CookieConfig.SameSite
    for name in _COOKIES:
        wanted = SameSite.LAX if name in _FLOW_COOKIES and same_site is not SameSite.NONE else same_site
        yield name, oauth2_v3.CookieConfig(same_site=kinds.Value(wanted.value.upper()), path="/")


OAUTH2 = Filter(NAME, OAuth2, _build, _build_route, OAuth2Login)
