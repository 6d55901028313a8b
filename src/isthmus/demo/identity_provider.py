"""``python -m isthmus.demo.identity_provider``: an OpenID provider for development.

It answers discovery, its public keys, and tokens for the grants ``password`` and ``client_credentials``.
Sources: OpenID Connect Discovery 1.0, section 3; RFC 6749, sections 2.3.1, 4.3, 4.4 and 5; RFC 7517; RFC 9068.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote_plus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.demo.accounts import AUDIENCE, PEOPLE, PROGRAMS, Account, find
from isthmus.demo.serving import port_from_environment, serve
from isthmus.jwks.signing import SigningKey, mint, new_signing_key, public_key_set, read_signing_key

TOKEN_LIFE = timedelta(hours=1)
_GRANTS = {"password": PEOPLE, "client_credentials": PROGRAMS}
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
_MAX_FORM_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Provider:
    """Who it is, and what it signs with."""

    issuer: str
    key: SigningKey

    def discovery(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
            "grant_types_supported": list(_GRANTS),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": sorted({scope for account in (*PEOPLE, *PROGRAMS) for scope in account.scopes}),
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti", "scope", "role", "name"],
        }

    def token(self, account: Account, scopes: tuple[str, ...], now: datetime) -> str:
        """An access token (JWT, RS256) for :data:`TOKEN_LIFE`."""
        return mint(
            self.key,
            issuer=self.issuer,
            subject=account.name,
            audiences=(AUDIENCE,),
            claims={
                "jti": str(uuid.uuid4()),
                "name": account.full_name,
                "role": account.role,
                "scope": " ".join(scopes),
            },
            expires_in=TOKEN_LIFE,
            now=now,
        )


class Denied(Exception):
    """An answer of RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error, description)
        self.error = error
        self.description = description
        self.status = status


def grant(form: Mapping[str, str], basic: tuple[str, str] | None) -> tuple[Account, tuple[str, ...]]:
    """Whom a token request is for, and with which scopes. ``basic``: client id and secret of its Authorization header.

    Raises Denied.
    """
    kind = form.get("grant_type")
    if kind is None:
        raise Denied("invalid_request", "grant_type is missing")
    if kind not in _GRANTS:
        raise Denied("unsupported_grant_type", f"one of {', '.join(_GRANTS)} is possible")
    if kind == "password":
        name, secret = form.get("username", ""), form.get("password", "")
        failure = Denied("invalid_grant", "unknown user or wrong password")
    else:
        name, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        failure = Denied("invalid_client", "unknown client or wrong secret", 401)
    account = find(_GRANTS[kind], name)
    if account is None or not hmac.compare_digest(account.secret.encode(), secret.encode()):
        raise failure
    wanted = tuple(form.get("scope", "").split()) or account.scopes
    if not set(wanted) <= set(account.scopes):
        raise Denied("invalid_scope", f"{account.name} has {' '.join(account.scopes)}")
    return account, wanted


def build_app(provider: Provider) -> Starlette:
    keys = public_key_set(provider.key).text

    async def discovery(_: Request) -> Response:
        return JSONResponse(provider.discovery())

    async def jwks(_: Request) -> Response:
        return Response(keys, media_type="application/json")

    async def token(request: Request) -> Response:
        try:
            account, scopes = grant(await _form(request), _basic(request))
        except Denied as denied:
            body = {"error": denied.error, "error_description": denied.description}
            headers = _NO_STORE | ({"www-authenticate": "Basic"} if denied.status == 401 else {})
            return JSONResponse(body, denied.status, headers)
        answer = {
            "access_token": provider.token(account, scopes, datetime.now(UTC)),
            "token_type": "Bearer",
            "expires_in": int(TOKEN_LIFE.total_seconds()),
            "scope": " ".join(scopes),
        }
        return JSONResponse(answer, headers=_NO_STORE)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/.well-known/openid-configuration", discovery),
            Route("/jwks", jwks),
            Route("/token", token, methods=["POST"]),
            Route("/health", health),
        ]
    )


async def _form(request: Request) -> dict[str, str]:
    """The form of a request (application/x-www-form-urlencoded). Raises Denied."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Denied("invalid_request", "the request has to be a form (application/x-www-form-urlencoded)")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise Denied("invalid_request", f"more than {_MAX_FORM_BYTES} bytes")
    pairs = parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
    form = dict(pairs)
    if len(form) < len(pairs):
        raise Denied("invalid_request", "a parameter is there twice")
    return form


def _basic(request: Request) -> tuple[str, str] | None:
    """Client id and secret of ``Authorization: Basic``, both form-encoded (RFC 6749, section 2.3.1)."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Denied("invalid_client", "the Authorization header cannot be read", 401) from None
    return unquote_plus(name), unquote_plus(secret)


def main() -> None:
    """``ISSUER``: its own URL (default: where it listens). ``KEY_FILE``: its RSA key (PEM); without it, a new one."""
    port = port_from_environment()
    issuer = os.environ.get("ISSUER", f"http://127.0.0.1:{port}").rstrip("/")
    key_file = os.environ.get("KEY_FILE")
    try:
        key = read_signing_key(Path(key_file).read_bytes()) if key_file else new_signing_key()
    except (OSError, ValueError) as fault:
        sys.exit(f"KEY_FILE: {fault}")
    print(json.dumps({"identity_provider": issuer}), flush=True)
    serve(build_app(Provider(issuer, key)), port)


if __name__ == "__main__":
    main()
