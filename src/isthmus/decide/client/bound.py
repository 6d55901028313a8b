"""Tokens that are worth something only together with a certificate (RFC 8705, section 3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

_THUMBPRINT = "x5t#S256"
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_KEPT = 4096


@lru_cache(_KEPT)
def thumbprint(certificate: str) -> str | None:
    """SHA-256 of a certificate as Envoy writes it (PEM, percent-encoded), in base64url; None: there is none.

    Of a chain the first, which the TLS handshake has proved.
    """
    pem = unquote_to_bytes(certificate)
    _, begin, rest = pem.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not begin or not end:
        return None
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return None
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def is_bound_at_all(claims: Mapping[str, Any]) -> bool:
    """Whether the token says that it is worth nothing by itself: to a certificate, or to anything else."""
    return claims.get("cnf") is not None


def is_bound(claims: Mapping[str, Any], certificate: str) -> bool:
    """Whether the token is bound to this certificate. A proof that cannot be looked at here (``jkt``) is none."""
    confirmation = claims.get("cnf")
    if not isinstance(confirmation, Mapping):
        return False
    wanted, shown = confirmation.get(_THUMBPRINT), thumbprint(certificate)
    others = [name for name in confirmation if name != _THUMBPRINT]
    return shown is not None and isinstance(wanted, str) and wanted.rstrip("=") == shown and not others
