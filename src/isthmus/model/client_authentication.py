"""Which credentials a route takes (ClientAuthentication), and how the process that checks them is told.

Three sorts of methods: what Envoy verifies by itself (tokens of known issuers; a login, :mod:`isthmus.model.oidc`), and
what the credentials process is asked about (API keys, certificates' consumers, opaque tokens, tokens bound to a
certificate). A place whose methods are all of the first sort costs no question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from isthmus.diag import Origin
from isthmus.model.attachment import Attachment

ACCEPTS = "isthmus.accepts"
"""The key of ext_authz' context extensions whose value is :attr:`Accepted.text`."""

API_KEY_SCHEME = "ApiKey"
"""What ``www-authenticate`` calls it (RFC 9110, section 11.1)."""


@dataclass(frozen=True, slots=True)
class ApiKeyMethod:
    """Where an API key may stand; names of headers are in lower case."""

    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateMethod:
    """The TLS client's certificate, if a Consumer has one of its names."""


@dataclass(frozen=True, slots=True)
class JwtMethod:
    """Tokens of these issuers, whose keys and places RequestAuthentications tell. ``bound``: RFC 8705, section 3."""

    issuers: tuple[str, ...]
    bound: bool = False


class ClientAuth(Enum):
    """How a client of an authorization server proves itself there (RFC 7591 ``token_endpoint_auth_method``)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 (a method)
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105


@dataclass(frozen=True, slots=True)
class IntrospectionMethod:
    """Tokens that are verified by asking who gave them (RFC 7662); read from ``Authorization: Bearer`` alone."""

    issuer: str
    endpoint: str
    client_id: str
    secret: str
    """``namespace/name`` of the Secret with the client's own secret."""
    secret_key: str = "client-secret"  # noqa: S105 (a name)
    client_auth: ClientAuth = ClientAuth.CLIENT_SECRET_BASIC
    audiences: tuple[str, ...] = ()
    """One of them must be in ``aud``; none: any."""
    cache_for: timedelta = timedelta(seconds=30)
    """How long an answer is believed without asking again, never past the token's own end."""
    timeout: timedelta = timedelta(seconds=2)
    ca_secret: str | None = None
    """``namespace/name`` of a Secret whose ``ca.crt`` the endpoint's certificate must come from; None: the system's."""
    bound: bool = False

    @property
    def key(self) -> str:
        """What this provider is called between the proxy and the process: a digest of all of it."""
        written = json.dumps([str(getattr(self, name)) for name in self.__slots__])
        return hashlib.sha256(written.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ClientAuthentication:
    """``required`` False: nobody is refused for bringing no credential at all. ``methods``: any one suffices."""

    name: str
    namespace: str
    attachment: Attachment
    required: bool
    origin: Origin
    api_keys: tuple[ApiKeyMethod, ...] = ()
    certificates: tuple[CertificateMethod, ...] = ()
    jwt: tuple[JwtMethod, ...] = ()
    introspection: tuple[IntrospectionMethod, ...] = ()
    oidc: tuple[Any, ...] = ()
    """Logins of browsers (``model/oidc.py``)."""

    @property
    def token_issuers(self) -> frozenset[str]:
        """Those that its methods name: of tokens, of answers about tokens, and of logins."""
        tokens = (issuer for method in self.jwt for issuer in method.issuers)
        return frozenset((*tokens, *(one.issuer for one in (*self.introspection, *self.oidc))))


@dataclass(frozen=True, slots=True)
class Accepted:
    """What one place takes: of all policies that hold there together."""

    required: bool = True
    api_key: ApiKeyMethod | None = None
    certificate: bool = False
    issuers: tuple[str, ...] = ()
    """Of tokens that Envoy verifies; sorted."""
    bound: tuple[str, ...] = ()
    """Those among the issuers whose tokens must be the certificate's."""
    introspection: str | None = None
    """:attr:`IntrospectionMethod.key`: one at most, for nobody but its issuer should get to see a token."""
    introspection_bound: bool = False
    logins: tuple[str, ...] = ()
    """Whose sessions are taken, by :attr:`isthmus.model.oidc.OidcLogin.key`: one at most."""
    oidc: tuple[Any, ...] = field(default=(), compare=True)

    @property
    def asks(self) -> bool:
        """Whether the credentials process must be asked."""
        return bool(self.api_key or self.certificate or self.bound or self.introspection)

    @property
    def text(self) -> str:
        """What the proxy hands the process with each question: JSON, the same for the same methods."""
        written: dict[str, object] = {"required": self.required}
        if self.api_key is not None:
            places = {"headers": self.api_key.headers, "query": self.api_key.query, "cookies": self.api_key.cookies}
            written["apiKey"] = {name: list(names) for name, names in places.items() if names}
        if self.certificate:
            written["certificate"] = True
        if self.issuers:
            written["issuers"] = list(self.issuers)
        if self.logins:
            written["logins"] = list(self.logins)
        if self.bound:
            written["bound"] = list(self.bound)
        if self.introspection is not None:
            written["introspection"] = {"provider": self.introspection, "bound": self.introspection_bound}
        return json.dumps(written, sort_keys=True, separators=(",", ":"))


def united(policies: Iterable[ClientAuthentication]) -> Accepted | None:
    """What equally specific policies take together; None: no policy. A credential is required if any says so."""
    policies = tuple(policies)
    if not policies:
        return None
    keys = [method for policy in policies for method in policy.api_keys]
    tokens = [method for policy in policies for method in policy.jwt]
    provider = next((method for policy in policies for method in policy.introspection), None)
    logins = tuple(dict.fromkeys(method for policy in policies for method in policy.oidc))
    return Accepted(
        # Whoever goes past a login with what only looks like another credential has brought none.
        required=any(policy.required or policy.oidc for policy in policies),
        api_key=_places(keys) if keys else None,
        certificate=any(policy.certificates for policy in policies),
        issuers=tuple(sorted({issuer for method in tokens for issuer in method.issuers})),
        bound=tuple(sorted({issuer for method in tokens if method.bound for issuer in method.issuers})),
        introspection=provider.key if provider is not None else None,
        introspection_bound=provider is not None and provider.bound,
        logins=tuple(login.key for login in logins[:1]),
        oidc=logins,
    )


def _places(keys: Iterable[ApiKeyMethod]) -> ApiKeyMethod:
    keys = tuple(keys)
    return ApiKeyMethod(
        headers=tuple(dict.fromkeys(name for key in keys for name in key.headers)),
        query=tuple(dict.fromkeys(name for key in keys for name in key.query)),
        cookies=tuple(dict.fromkeys(name for key in keys for name in key.cookies)),
    )


def read_accepted(text: str) -> Accepted:
    """The inverse of :attr:`Accepted.text` (of logins their keys). Raises ValueError: it is not one."""
    try:
        written: Mapping[str, Any] = json.loads(text)
        key, opaque = written.get("apiKey"), written.get("introspection")
        return Accepted(
            required=written["required"] is not False,
            api_key=None if key is None else ApiKeyMethod(**{name: tuple(names) for name, names in key.items()}),
            certificate=written.get("certificate") is True,
            issuers=tuple(written.get("issuers", ())),
            bound=tuple(written.get("bound", ())),
            introspection=None if opaque is None else opaque["provider"],
            logins=tuple(written.get("logins", ())),
            introspection_bound=opaque is not None and opaque["bound"] is not False,
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as wrong:
        raise ValueError(f"not what a place accepts: {wrong}") from None
