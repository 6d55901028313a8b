"""What an OpenID provider's discovery document says of logins, as far as it is believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from isthmus.errors import JwksUnavailable
from isthmus.jwks.source import read_document
from isthmus.model.oidc import ProviderEndpoints

_MOST_CHARACTERS = 2048


def read_provider(text: str | bytes, issuer: str) -> ProviderEndpoints:
    """The endpoints of ``issuer``'s discovery document.

    Users are sent to one of them, and the client's secret to another, so the document is not simply believed: each is
    https (http only on this machine, of an issuer that is there, too), without user or fragment, and not on a private
    network that the issuer itself is not on. Code flow and PKCE must not be ruled out.

    Raises JwksUnavailable: not such a document, of another issuer, or with an endpoint like that.
    """
    document = read_document(text, issuer)
    codes = _list(document, "response_types_supported")
    if codes is not None and "code" not in codes:
        raise JwksUnavailable("the provider has no code flow (response_types_supported)")
    challenges = _list(document, "code_challenge_methods_supported")
    if challenges is not None and "S256" not in challenges:
        raise JwksUnavailable("the provider has no PKCE with S256 (code_challenge_methods_supported)")
    end_session = "end_session_endpoint"
    return ProviderEndpoints(
        authorization=_endpoint(document, "authorization_endpoint", issuer),
        token=_endpoint(document, "token_endpoint", issuer),
        end_session=_endpoint(document, end_session, issuer) if end_session in document else None,
    )


def _list(document: Mapping[str, Any], name: str) -> list[Any] | None:
    value = document.get(name)
    if value is not None and not isinstance(value, list):
        raise JwksUnavailable(f"{name} of the discovery document is not a list")
    return value


def _endpoint(document: Mapping[str, Any], name: str, issuer: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise JwksUnavailable(f"the discovery document has no {name}")
    problem = endpoint_problem(value, issuer)
    if problem is not None:
        raise JwksUnavailable(f"{name} of the discovery document, {ascii(value)[:200]}, {problem}")
    return value


def endpoint_problem(value: str, issuer: str) -> str | None:
    """Why a login of ``issuer`` may not use the endpoint ``value``; None: it may."""
    if len(value) > _MOST_CHARACTERS or not value.isascii() or any(one <= " " or one in '\\"<>{}' for one in value):
        return "is not a URL"
    try:
        url, own = urlsplit(value), urlsplit(issuer)
        _ = url.port, own.port
    except ValueError:
        return "is not a URL"
    if not url.hostname or url.username is not None or url.password is not None or "#" in value:
        return "is not a URL of a host, without user and fragment"
    if url.scheme != own.scheme:
        return f"is not {own.scheme}, as the issuer is"
    if url.scheme != "https" and not (url.scheme == "http" and _is_inside(url) and _is_inside(own)):
        return "is not https"
    if _is_inside(url) and not _is_inside(own):
        return "is of a private network, and the issuer is not"
    return None


def _is_inside(url: SplitResult) -> bool:
    host = (url.hostname or "").rstrip(".")
    last = host.rpartition(".")[2]
    # Resolvers take 2130706433, 0x7f.1 and 127.1 for addresses: no public name ends in a number.
    if host == "localhost" or last in ("localhost", "local", "internal") or (last[:1].isdigit() and "." not in host):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return last[:1].isdigit()
