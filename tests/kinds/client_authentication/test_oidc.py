from __future__ import annotations

from datetime import timedelta

import pytest
from tests.kinds.traffic_manifest import EDGE, Compiled, compiled

from isthmus.model.client_authentication import ClientAuth
from isthmus.model.oidc import ForwardToken, OidcLogin, SameSite

SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: shop-oidc, namespace: shop}
stringData: {client-secret: s, other: t}
"""
LEAST = "issuer: 'https://login.example.com', clientId: shop, clientSecretRef: {name: shop-oidc}"


def policy(said: str, rest: str = "") -> str:
    """A ClientAuthentication whose ``oidc`` is at 7:5."""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {name: web, namespace: shop}\n"
        f"spec:\n  targetRefs: [{{kind: Gateway, name: edge}}]\n  methods:\n  - oidc: {{{said}}}\n{rest}"
    )


def done(said: str, rest: str = "") -> Compiled:
    return compiled(policy(said, rest), EDGE, SECRET)


def login(said: str) -> OidcLogin:
    (found,) = done(f"{LEAST}, {said}" if said else LEAST).mesh.policies.clients
    (one,) = found.oidc  # type: ignore[attr-defined]
    assert isinstance(one, OidcLogin)
    return one


def errors(found: Compiled) -> str:
    return "\n".join(f"{one.path}: {one.message}" for one in found.diagnostics if one.severity.word == "error")


def test_what_is_not_said() -> None:
    found = login("")
    assert (found.issuer, found.client_id, found.secret) == ("https://login.example.com", "shop", "shop/shop-oidc")
    assert (found.secret_key, found.client_auth) == ("client-secret", ClientAuth.CLIENT_SECRET_BASIC)
    assert (found.scopes, found.redirect_path, found.logout_path) == (("openid",), "/oauth2/callback", "/logout")
    assert (found.endpoints, found.jwks_uri, found.post_logout_redirect) == (None, None, None)
    assert (found.refresh, found.session, found.forward) == (True, timedelta(days=7), ForwardToken.NONE)
    assert (found.same_site, found.cookie_prefix, found.redirect_domains) == (SameSite.LAX, None, ())


def test_what_is_said() -> None:
    found = login(
        "clientAuth: CLIENT_SECRET_POST, scopes: [email, openid], redirectPath: /cb, logoutPath: /out, "
        "postLogoutRedirect: 'https://www.example.com/', cookies: {prefix: shop, sameSite: NONE}, refresh: false, "
        "outputClaimToHeaders: [{header: x-user, claim: sub}], "
        "sessionLifetime: 1h, forwardToken: ID, allowedRedirectDomains: ['*.example.org', example.net], "
        "endpoints: {authorization: 'https://a/a', token: 'https://a/t', jwks: 'https://a/j', endSession: 'https://a/e'}"
    )
    assert found.client_auth is ClientAuth.CLIENT_SECRET_POST
    assert (found.scopes, found.redirect_path, found.logout_path) == (("openid", "email"), "/cb", "/out")
    assert (found.post_logout_redirect, found.jwks_uri) == ("https://www.example.com/", "https://a/j")
    assert (found.cookie_prefix, found.same_site, found.refresh) == ("shop", SameSite.NONE, False)
    assert (found.session, found.forward) == (timedelta(hours=1), ForwardToken.ID)
    assert found.rule.output_claim_to_headers == (("x-user", "sub"),)
    assert found.redirect_domains == ("*.example.org", "example.net")
    assert found.endpoints is not None
    assert (found.endpoints.authorization, found.endpoints.token, found.endpoints.end_session) == (
        "https://a/a",
        "https://a/t",
        "https://a/e",
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("redirectPath: callback", "is not a path of its own"),
        ("redirectPath: /", "is not a path of its own"),
        ("redirectPath: '/a?b'", "is not a path of its own"),
        ("redirectPath: '/%2e'", "is not a path of its own"),
        ("redirectPath: /a/../b", "is not a path of its own"),
        ("redirectPath: //evil.example.com", "is not a path of its own"),
        ("redirectPath: /logout", "this is redirectPath, too"),
        ("postLogoutRedirect: 'https://a/%REQ(x)%'", "holds a %"),
        ("postLogoutRedirect: 'http://a.example.com/'", "https it is"),
        ("scopes: ['a b']", "is not a scope"),
        ("cookies: {prefix: 'a;b'}", "letters, digits"),
        ("cookies: {sameSite: STRICT}", "not one of LAX, NONE"),
        ("allowedRedirectDomains: ['*']", "is not a host"),
        ("allowedRedirectDomains: ['https://a.example.com']", "is not a host"),
        ("sessionLifetime: 0s", ""),
        ("endpoints: {authorization: 'http://a.example.com', token: 'https://a', jwks: 'https://a'}", "https it is"),
        ("endpoints: {authorization: 'https://a'}", "token"),
        ("pkce: false", "pkce"),
    ],
)
def test_refuses(said: str, reason: str) -> None:
    assert reason in errors(done(f"{LEAST}, {said}"))
    assert errors(done(f"{LEAST}, {said}"))


@pytest.mark.parametrize(
    ("issuer", "reason"),
    [
        ("login.example.com", "nothing can be discovered there"),
        ("http://login.example.com", "https it is"),
        ("https://login.example.com?x=1", "an issuer has no query"),
    ],
)
def test_an_issuer_is_where_its_document_is(issuer: str, reason: str) -> None:
    said = f"issuer: '{issuer}', clientId: shop, clientSecretRef: {{name: shop-oidc}}"
    assert reason in errors(done(said))
    told = "endpoints: {authorization: 'https://a', token: 'https://a', jwks: 'https://a'}"
    if "http" not in issuer:
        assert errors(done(f"{said}, {told}")) == ""


def test_one_login_is_all_that_a_place_can_have() -> None:
    assert "one login, no more" in errors(done(LEAST, f"  - oidc: {{{LEAST}}}\n"))
    assert "beside certificate" in errors(done(LEAST, "  - certificate: {}\n"))
    assert errors(done(LEAST, "  - apiKey: {}\n")) == ""


@pytest.mark.parametrize(
    ("ref", "missing"), [("{name: shop-oidcs}", "Secret"), ("{name: shop-oidc, key: x}", "key of")]
)
def test_a_secret_that_is_not_there(ref: str, missing: str) -> None:
    found = done(f"issuer: 'https://login.example.com', clientId: shop, clientSecretRef: {ref}")
    assert "IST0101" in " ".join(found.found)
    assert missing in found.messages
