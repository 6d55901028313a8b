"""OpenID providers: the one from PyPI, and one of our own that can be told to misbehave."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import ssl
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from isthmus.jwks.signing import mint, new_signing_key, public_key_set


@contextlib.contextmanager
def mock_provider(lifetime: timedelta = timedelta(hours=1)) -> Iterator[str]:
    """``oidc-provider-mock``, whose one user is alice; its issuer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oidc_provider_mock import User, run_server_in_thread

        users = (User(sub="alice", claims={"email": "alice@example.com"}),)
        with run_server_in_thread(user_claims=users, access_token_max_age=lifetime) as running:
            yield f"http://localhost:{running.server_port}"


@dataclass
class Provider:
    """A provider for whom everybody is alice. What it says and does is the test's to change."""

    lifetime_seconds: int = 3600
    id_token_on_refresh: bool = True
    discovery: dict[str, Any] = field(default_factory=dict)
    """What its discovery document says instead of the truth."""
    claims: dict[str, Any] = field(default_factory=dict)
    """What its ID tokens say instead."""
    stranger: bool = False
    """ID tokens are signed with a key that is not published."""
    refreshes: int = 0
    token_requests: list[dict[str, str]] = field(default_factory=list)
    issuer: str = ""

    @contextlib.contextmanager
    def running(self, identity: Path | None = None) -> Iterator[Provider]:
        """At :attr:`issuer`. ``identity``: chain and key, PEM, for a provider over TLS."""
        provider = self
        self._key, self._other = new_signing_key(), new_signing_key()
        self._codes: dict[str, dict[str, str]] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                if url.path == "/authorize":
                    self._answer(302, "", location=provider.authorize(query))
                elif url.path == "/end":
                    self._answer(200, json.dumps(query))
                else:
                    said = provider.jwks() if url.path == "/jwks" else json.dumps(provider.document())
                    self._answer(200, said)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                status, said = provider.token(form | {"authorization": self.headers.get("authorization", "")})
                self._answer(status, json.dumps(said))

            def _answer(self, status: int, body: str, **headers: str) -> None:
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if identity is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(identity)
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.issuer = f"{'http' if identity is None else 'https'}://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5)

    def document(self) -> dict[str, Any]:
        base = self.issuer
        said = {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "jwks_uri": f"{base}/jwks",
            "end_session_endpoint": f"{base}/end",
        }
        return said | self.discovery

    def jwks(self) -> str:
        return public_key_set(self._key).text

    def authorize(self, query: dict[str, str]) -> str:
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.token_requests.append(form)
        said: dict[str, Any] = {"access_token": secrets.token_urlsafe(8), "token_type": "Bearer"}
        said |= {"expires_in": self.lifetime_seconds, "refresh_token": secrets.token_urlsafe(8)}
        if form["grant_type"] == "refresh_token":
            self.refreshes += 1
            return 200, said | ({"id_token": self.id_token("shop")} if self.id_token_on_refresh else {})
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or asked["code_challenge"] != _challenge(form.get("code_verifier", "")):
            return 400, {"error": "invalid_grant"}
        return 200, said | {"id_token": self.id_token(asked["client_id"])}

    def id_token(self, client: str) -> str:
        return mint(
            self._other if self.stranger else self._key,
            issuer=self.issuer,
            subject="alice",
            audiences=[client],
            claims=self.claims,
            expires_in=timedelta(seconds=self.lifetime_seconds),
            now=datetime.now(UTC),
        )


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
