"""``oidc`` of a method: browsers log in at an OpenID provider (OpenID Connect Core 1.0, code flow with PKCE)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from isthmus.config.decode import Reader, boolean, checked, enum_of, fail, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Origin, Report
from isthmus.kinds.client_authentication.introspection import SecretKeySpec, endpoint_problem
from isthmus.kinds.request_authentication import CLAIM_TO_HEADERS, ClaimToHeader
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.client_authentication import ClientAuth
from isthmus.model.oidc import ForwardToken, OidcLogin, ProviderEndpoints, SameSite

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@-]+(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_COOKIE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_OPENID = "openid"


@dataclass(frozen=True, slots=True)
class EndpointsSpec:
    at: Node
    authorization: str
    token: str
    jwks: str
    end_session: str | None


@dataclass(frozen=True, slots=True)
class CookiesSpec:
    at: Node
    prefix: str | None
    same_site: SameSite


@dataclass(frozen=True, slots=True)
class OidcSpec:
    at: Node
    issuer: str
    client_id: str
    client_secret_ref: SecretKeySpec
    client_auth: ClientAuth
    endpoints: EndpointsSpec | None
    scopes: tuple[str, ...]
    redirect_path: str
    logout_path: str
    post_logout_redirect: str | None
    cookies: CookiesSpec | None
    refresh: bool
    session_lifetime: timedelta
    forward_token: ForwardToken
    output_claim_to_headers: tuple[ClaimToHeader, ...]
    allowed_redirect_domains: tuple[str, ...]

    def value(self, origin: Origin) -> OidcLogin:
        """``origin``: the policy's."""
        written, cookies = self.endpoints, self.cookies
        endpoints = None
        if written is not None:
            endpoints = ProviderEndpoints(written.authorization, written.token, written.end_session)
        return OidcLogin(
            namespace=origin.ref.namespace,
            name=origin.ref.name,
            issuer=self.issuer,
            client_id=self.client_id,
            secret=f"{origin.ref.namespace}/{self.client_secret_ref.name}",
            origin=origin,
            secret_key=self.client_secret_ref.key,
            client_auth=self.client_auth,
            endpoints=endpoints,
            jwks_uri=written.jwks if written is not None else None,
            scopes=tuple(dict.fromkeys((_OPENID, *self.scopes))),
            redirect_path=self.redirect_path,
            logout_path=self.logout_path,
            post_logout_redirect=self.post_logout_redirect,
            cookie_prefix=cookies.prefix if cookies is not None else None,
            same_site=cookies.same_site if cookies is not None else SameSite.LAX,
            session=self.session_lifetime,
            refresh=self.refresh,
            forward=self.forward_token,
            claim_headers=tuple((one.header, one.claim) for one in self.output_claim_to_headers),
            redirect_domains=self.allowed_redirect_domains,
        )


def _path_problem(path: str) -> str | None:
    if _PATH.fullmatch(path) and "/../" not in f"{path}/" and "/./" not in f"{path}/":
        return None
    return f'"{path}" is not a path of its own: it begins with /, has a name behind it, and neither a query nor %'


def _after_logout_problem(there: str) -> str | None:
    if there == "/" or (there.startswith("/") and _path_problem(there) is None):
        return None
    return f'"{there}" holds a %, which means something here' if "%" in there else endpoint_problem(there)


def _word_problem(value: str) -> str | None:
    return None if value and value.isascii() and value.isprintable() else "plain characters are needed, at least one"


def _scope_problem(scope: str) -> str | None:
    return None if _SCOPE.fullmatch(scope) else f'"{scope}" is not a scope (RFC 6749, section 3.3)'


def _cookie_problem(prefix: str) -> str | None:
    return None if _COOKIE.fullmatch(prefix) else "letters, digits and - . _ are possible, at most 64"


def _host_problem(host: str) -> str | None:
    return None if _HOST.fullmatch(host) else f'"{host}" is not a host, nor *. and a domain, in lower case'


def _checked_login(login: OidcSpec, node: Node, report: Report) -> OidcSpec:
    if login.endpoints is None:
        problem = endpoint_problem(login.issuer)
        if problem is None and urlsplit(login.issuer).query:
            problem = "an issuer has no query"
        if problem is not None:
            raise fail(report, node.at("issuer"), f"{problem} (nothing can be discovered there: give endpoints)")
    if login.redirect_path == login.logout_path:
        raise fail(report, node.at("logoutPath"), "this is redirectPath, too")
    return login


def one_login(logins: Sequence[OidcSpec | None], certificates: Sequence[object | None], report: Report) -> None:
    """Raises Unreadable after reporting it: a second login, or a certificate beside one."""
    found = [login for login in logins if login is not None]
    if len(found) > 1:
        raise fail(report, found[1].at, "one login, no more: a browser can be sent to one provider")
    if found and any(certificate is not None for certificate in certificates):
        wrong = "a login beside certificate: whoever has no session is sent to log in before certificates are looked at"
        raise fail(report, found[0].at, wrong)


_WORD = checked(text, _word_problem)
_PATH_TEXT = checked(text, _path_problem)
_URL = checked(text, endpoint_problem)

OIDC: Reader[OidcSpec] = converted(
    record(
        OidcSpec,
        required("issuer", _WORD, note="what the ID token says; its discovery document tells where the rest is"),
        required("clientId", _WORD, note="also the audience that ID tokens must have"),
        required(
            "clientSecretRef",
            record(SecretKeySpec, required("name", text), optional("key", _WORD, "client-secret")),
            note="a Secret of the policy's namespace",
        ),
        optional("clientAuth", enum_of(ClientAuth), ClientAuth.CLIENT_SECRET_BASIC),
        optional(
            "endpoints",
            record(
                EndpointsSpec,
                required("authorization", _URL),
                required("token", _URL),
                required("jwks", _URL),
                optional("endSession", _URL),
            ),
            note="instead of discovery",
        ),
        optional("scopes", list_of(checked(text, _scope_problem)), (), note="beside openid"),
        optional("redirectPath", _PATH_TEXT, "/oauth2/callback", note="of every host there; registered at the issuer"),
        optional("logoutPath", _PATH_TEXT, "/logout"),
        optional("postLogoutRedirect", checked(text, _after_logout_problem), note="a URL, or a path; / without it"),
        optional(
            "cookies",
            record(
                CookiesSpec,
                optional("prefix", checked(text, _cookie_problem), note="behind __Host-"),
                optional("sameSite", enum_of(SameSite), SameSite.LAX),
            ),
        ),
        optional("refresh", boolean, True, note="sessions are renewed while the issuer's refresh token lasts"),
        optional("sessionLifetime", positive_duration, timedelta(days=7), note="of a refresh token that does not say"),
        optional("forwardToken", enum_of(ForwardToken), ForwardToken.NONE, note="as Authorization: Bearer"),
        optional("outputClaimToHeaders", CLAIM_TO_HEADERS, (), note="what the program is told of the user"),
        optional(
            "allowedRedirectDomains",
            list_of(checked(text, _host_problem)),
            (),
            note="to which a login may lead back, beside the hosts of the gateway",
        ),
    ),
    _checked_login,
)
