"""Where an issuer's keys are: at a ``jwksUri``, or where OpenID Connect discovery says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.errors import JwksUnavailable


@dataclass(frozen=True, slots=True)
class JwksSource:
    """The keys that one or more JWT rules rest on."""

    issuer: str
    """The ``iss`` of the tokens; a URL where keys are discovered, else any text."""
    uri: str | None = None
    """The key set's own URL; None: by discovery on the issuer."""
    timeout: timedelta | None = None
    """How long one fetch may take, discovery and redirects included; None: as the fetcher sees fit."""


def discovery_uri(issuer: str) -> str:
    """The issuer's discovery document (OpenID Connect Discovery 1.0, section 4.1).

    Raises JwksUnavailable: an issuer that is no URL says nothing about where its keys are.
    """
    if not issuer.startswith(("https://", "http://")):
        raise JwksUnavailable("the issuer is not a URL, so its keys cannot be discovered: give a jwksUri")
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def read_document(text: str | bytes, issuer: str) -> Mapping[str, Any]:
    """``issuer``'s discovery document (OpenID Connect Discovery 1.0, sections 3 and 4.3).

    Raises JwksUnavailable: not such a document, or one of another issuer. Names compare exactly, a slash at the end
    included: whoever answers in another's name could lend that name its own keys.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise JwksUnavailable("the discovery document is not JSON") from None
    if not isinstance(document, dict):
        raise JwksUnavailable("the discovery document is not an object")
    if document.get("issuer") != issuer:
        stated = ascii(document.get("issuer"))[:200]
        raise JwksUnavailable(f"the discovery document is that of another issuer, {stated}")
    return document


def read_discovery(text: str | bytes, issuer: str) -> str:
    """The ``jwks_uri`` of ``issuer``'s document. Raises JwksUnavailable: as :func:`read_document`, or it has none."""
    uri = read_document(text, issuer).get("jwks_uri")
    if not isinstance(uri, str):
        raise JwksUnavailable("the discovery document has no jwks_uri")
    return uri
