"""``introspection`` of a method: who says what an opaque token is worth (RFC 7662)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from urllib.parse import urlsplit

from isthmus.config.decode import Reader, boolean, checked, duration, enum_of, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.model.client_authentication import ClientAuth, IntrospectionMethod

_LONGEST_CACHE = timedelta(hours=1)
_LONGEST_WAIT = timedelta(seconds=4)


class _ClientAuth(Enum):
    """As RFC 7591 writes them."""

    client_secret_basic = "client_secret_basic"  # noqa: S105 (a method)
    client_secret_post = "client_secret_post"  # noqa: S105


@dataclass(frozen=True, slots=True)
class SecretKeySpec:
    """A Secret of the policy's namespace."""

    at: Node
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class CaSpec:
    at: Node
    name: str


@dataclass(frozen=True, slots=True)
class IntrospectionSpec:
    at: Node
    issuer: str
    endpoint: str
    client_id: str
    client_secret_ref: SecretKeySpec
    client_auth: ClientAuth
    audiences: tuple[str, ...]
    cache_for: timedelta
    timeout: timedelta
    ca_secret_ref: CaSpec | None
    bound_to_certificate: bool

    def value(self, namespace: str) -> IntrospectionMethod:
        ca = self.ca_secret_ref
        return IntrospectionMethod(
            issuer=self.issuer,
            endpoint=self.endpoint,
            client_id=self.client_id,
            secret=f"{namespace}/{self.client_secret_ref.name}",
            secret_key=self.client_secret_ref.key,
            client_auth=self.client_auth,
            audiences=self.audiences,
            cache_for=self.cache_for,
            timeout=self.timeout,
            ca_secret=None if ca is None else f"{namespace}/{ca.name}",
            bound=self.bound_to_certificate,
        )


def endpoint_problem(written: str) -> str | None:
    """Tokens and a secret go there: https, or http to this very machine (development)."""
    try:
        parts = urlsplit(written)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return f'"{written}" is not a URL'
    if not host or parts.username or parts.password or parts.fragment:
        return f'"{written}" is not a URL of a host, without user or fragment'
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return None
    return f'"{written}": tokens go there, so https it is (http to a loopback address alone)'


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _word_problem(value: str) -> str | None:
    return None if value else "an empty string is not possible here"


def _cache_problem(value: timedelta) -> str | None:
    return f"at most {_LONGEST_CACHE}: a revoked token stays good so long" if value > _LONGEST_CACHE else None


def _wait_problem(value: timedelta) -> str | None:
    return f"at most {_LONGEST_WAIT}: the client waits with us" if value > _LONGEST_WAIT else None


_WORD = checked(text, _word_problem)
CLIENT_AUTH: Reader[ClientAuth] = converted(
    enum_of(_ClientAuth), lambda written, node, report: ClientAuth(written.value)
)

INTROSPECTION: Reader[IntrospectionSpec] = record(
    IntrospectionSpec,
    required("issuer", _WORD, note="an answer that names another one is refused"),
    required("endpoint", checked(text, endpoint_problem)),
    required("clientId", _WORD, note="who asks"),
    required(
        "clientSecretRef",
        record(SecretKeySpec, required("name", text), optional("key", _WORD, "client-secret")),
        note="a Secret of the policy's namespace",
    ),
    optional("clientAuth", CLIENT_AUTH, ClientAuth.CLIENT_SECRET_BASIC),
    optional("audiences", list_of(_WORD), (), note="one of them must be in aud; none: any"),
    optional("cacheFor", checked(duration, _cache_problem), timedelta(seconds=30), note="never past the token's end"),
    optional("timeout", checked(positive_duration, _wait_problem), timedelta(seconds=2)),
    optional("caSecretRef", record(CaSpec, required("name", text)), note="its ca.crt; else the system's CAs"),
    optional("boundToCertificate", boolean, False, note="RFC 8705: cnf.x5t#S256 of the answer is the TLS client's"),
)
