"""Logins of browsers at an OpenID provider: what a ClientAuthentication says of them, and what the provider says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from isthmus.diag import Origin
from isthmus.model.client_authentication import ClientAuth
from isthmus.model.policy import JwtRule, TokenHeader

HEADER = "x-isthmus-login-"
"""In front of a login's key: the header in which the ID token goes from the login to its verification, in the proxy."""
SESSION = "login:"
"""In front of a login's key: the dynamic metadata of ``jwt_authn`` in which the JOSE header of its ID token stands.
So whoever reads the payload beside it knows that a session was verified, and of which login, and no bearer token."""


class ForwardToken(Enum):
    """What the program behind a login is sent, as ``Authorization: Bearer``."""

    NONE = "NONE"
    ACCESS = "ACCESS"
    ID = "ID"


class SameSite(Enum):
    """Of the session's cookies. Strict is none of them: a browser does not send such ones when it comes back."""

    LAX = "Lax"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class ProviderEndpoints:
    """Where a provider is asked for what; URLs. ``end_session`` None: it knows no logout (RP-Initiated Logout 1.0)."""

    authorization: str
    token: str
    end_session: str | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of an issuer's endpoints, or why nothing is."""

    endpoints: ProviderEndpoints | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """One login. ``namespace`` and ``name`` are those of its policy, whose proxies alone share its sessions."""

    namespace: str
    name: str
    issuer: str
    client_id: str
    secret: str
    """``namespace/name`` of the Secret with the client's own secret."""
    origin: Origin
    secret_key: str = "client-secret"  # noqa: S105 (the name of a key)
    client_auth: ClientAuth = ClientAuth.CLIENT_SECRET_BASIC
    endpoints: ProviderEndpoints | None = None
    """None: by discovery on the issuer."""
    jwks_uri: str | None = None
    scopes: tuple[str, ...] = ("openid",)
    redirect_path: str = "/oauth2/callback"
    logout_path: str = "/logout"
    post_logout_redirect: str | None = None
    """A URL, or a path of the host that was logged out of; None: its ``/``."""
    cookie_prefix: str | None = None
    same_site: SameSite = SameSite.LAX
    session: timedelta = timedelta(days=7)
    """How long a refresh token that does not say its own end is kept."""
    refresh: bool = True
    forward: ForwardToken = ForwardToken.NONE
    claim_headers: tuple[tuple[str, str], ...] = ()
    """(header, claim of the ID token), for the program behind it."""
    redirect_domains: tuple[str, ...] = ()
    """Hosts beside the gateway's own to which a login may lead back: exact, or ``*.`` and a domain."""

    @property
    def key(self) -> str:
        """What tells its sessions from those of any other login: a digest of whose they are."""
        written = json.dumps([self.namespace, self.name, self.issuer, self.client_id])
        return hashlib.sha256(written.encode()).hexdigest()[:12]

    @property
    def header(self) -> str:
        return f"{HEADER}{self.key}"

    @property
    def cookies(self) -> str:
        """What its cookies' names begin with. ``__Host-``: of this host alone, and only over TLS (RFC 6265bis)."""
        return f"__Host-{self.cookie_prefix or 'isthmus-' + self.key}"

    @property
    def rule(self) -> JwtRule:
        """How its ID tokens are verified: Envoy's login itself looks at no signature."""
        return JwtRule(
            issuer=self.issuer,
            origin=self.origin,
            audiences=(self.client_id,),
            jwks_uri=self.jwks_uri,
            from_headers=(TokenHeader(self.header),),
            output_claim_to_headers=self.claim_headers,
        )


def logins_of(policies: Iterable[Any]) -> tuple[OidcLogin, ...]:
    """The logins of ClientAuthentications, each once, in order."""
    return tuple(dict.fromkeys(login for policy in policies for login in policy.oidc))


def provider_to_json(provider: ProviderEndpoints) -> dict[str, Any]:
    """For the state."""
    return {
        "authorization": provider.authorization,
        "token": provider.token,
        "end_session": provider.end_session,
    }


def provider_from_json(value: Mapping[str, Any]) -> ProviderEndpoints:
    """Raises KeyError, TypeError: not what :func:`provider_to_json` gave."""
    return ProviderEndpoints(str(value["authorization"]), str(value["token"]), value["end_session"])
