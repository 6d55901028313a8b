"""Opaque tokens on real Envoys, with a real provider: introspection, revocation, tokens bound to a certificate."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isthmus.decide.client.bound import thumbprint
from tests.real.backend import Backend
from tests.real.client_authentication import FIRST, SECOND, Shop, authentication, issuers, jwt, world
from tests.real.edge import ROOT, SERVERS, pem
from tests.real.fields import enforces
from tests.real.oidc_provider import OidcProvider
from tests.real.pki import Leaf
from tests.real.traffic import Manifest, manifest
from tests.real.traffic_credentials import secret
from tests.real.up import Up, contents, development_jwks, eventually, free_port

pytestmark = pytest.mark.real

INTROSPECTION = "ClientAuthentication.spec.methods[].introspection."
PASSWORD = "of the gateway at the provider, 32 characters"
LIES = {
    "html": (200, b"<html>please log in</html>"),
    "types": (200, b'{"active": "true", "sub": "mallory"}'),
    "list": (200, b'[{"active": true}]'),
    "huge": (200, b'{"active": true, "x": "' + b"x" * 100_000 + b'"}'),
    "denied": (401, b'{"error": "invalid_client"}'),
    "elsewhere": (307, b""),
}
"""What a provider says that is no answer."""
TRUTHS = {
    "stranger": {"active": True, "iss": "https://another.example.com"},
    "ended": {"active": True, "exp": 1},
    "early": {"active": True, "nbf": 4_000_000_000},
    "good": {"active": True, "sub": "alice", "aud": ["orders"], "scope": "read write", "token_type": "Bearer"},
    "proof": {"active": True, "sub": "alice", "cnf": {"jkt": "of a key whose proof nobody looks at"}},
}
DISCOVERED = {
    "posing": "the discovery document is that of another issuer, 'https://another.example.com'",
    "leading": "http://203.0.113.7/keys: keys come over https only",
}
"""Issuers whose discovery document lies, and what is said of it."""
ADMINS: Manifest = {
    "name": "admins",
    "match": [{"uri": {"prefix": "/people"}, "headers": {"@request.auth.claims.role": {"exact": "admin"}}}],
    "route": [{"destination": {"host": "web"}}],
}
PATHS = (
    "people",
    "opaque",
    "either",
    "mixed",
    "bound",
    "jwt-bound",
    "audience",
    "other-audience",
    "stale",
    "fresh",
    "gone",
    "late",
)


class Liar:
    """An introspection endpoint that answers by its path, and counts."""

    def __init__(self) -> None:
        liar = self
        self.asked: list[tuple[str, str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                name = self.path.removeprefix("/")
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                liar.asked.append((name, self.headers.get("authorization", ""), body))
                if name == "late":
                    time.sleep(1.5)
                status, content = LIES.get(name) or (200, json.dumps(TRUTHS.get(name, TRUTHS["good"])).encode())
                self.send_response(status)
                if status == 307:
                    self.send_header("location", f"{liar.url}/good")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                name, _, rest = self.path.removeprefix("/").partition("/")
                content = json.dumps(liar.discovered(name)).encode()
                self.send_response(200 if rest == ".well-known/openid-configuration" else 404)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def issuer(self, name: str) -> str:
        return f"{self.url}/{name}"

    def discovered(self, name: str) -> dict[str, str]:
        """A discovery document that lies."""
        keys = f"{self.url}/keys"
        lies = {
            "posing": {"issuer": "https://another.example.com", "jwks_uri": keys},
            "leading": {"issuer": self.issuer("leading"), "jwks_uri": "http://203.0.113.7/keys"},
        }
        return lies.get(name, {})

    def __enter__(self) -> Liar:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Mesh:
    shop: Shop
    provider: OidcProvider
    liar: Liar
    backend: Backend
    folder: Path

    def trust(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=SERVERS.pem.decode())
        if leaf is not None:
            context.load_cert_chain(leaf.written(self.folder, "bound"))
        return context

    def token(self, leaf: Leaf | None = None, **form: str) -> str:
        client = "shop" if leaf is None else "bound"
        return self.provider.token(client, PASSWORD, self.trust(leaf), scope="orders:read", **form)


def introspection(endpoint: str, issuer: str, **more: Any) -> Manifest:
    about = {"issuer": issuer, "endpoint": endpoint, "clientId": "shop", "clientSecretRef": {"name": "provider"}}
    return {"introspection": {**about, **more}}


def policies(provider: OidcProvider, liar: Liar, jwks: str) -> list[Manifest]:
    def at_provider(**more: Any) -> Manifest:
        return introspection(f"{provider.url}/token/introspection", provider.issuer, **ca, **more)

    def at_liar(name: str, **more: Any) -> Manifest:
        return introspection(f"{liar.url}/{name}", "https://liar.example.com", **more)

    ca = {"caSecretRef": {"name": "provider-ca"}}
    post = {"clientAuth": "client_secret_post", "clientSecretRef": {"name": "provider", "key": "other"}}
    return [
        secret("provider", type="Opaque", data={"client-secret": PASSWORD.encode(), "other": b"another secret"}),
        pem("provider-ca", ca_crt=SERVERS.pem),
        issuers(jwks, FIRST, SECOND),
        manifest(
            "RequestAuthentication",
            "liars",
            {
                "selector": {"matchLabels": {"app": "edge"}},
                "jwtRules": [{"issuer": liar.issuer(name)} for name in DISCOVERED],
            },
        ),
        *(authentication(name, jwt(liar.issuer(name))) for name in DISCOVERED),
        authentication("people", jwt(FIRST, SECOND)),
        authentication("admins", jwt(SECOND)),
        authentication("opaque", at_provider(cacheFor="0s")),
        authentication("either", jwt(FIRST), at_provider()),
        authentication("mixed", {"apiKey": {}}, at_provider()),
        authentication("bound", at_provider(boundToCertificate=True)),
        authentication("jwt-bound", jwt(FIRST, boundToCertificate=True)),
        authentication("audience", at_liar("good", audiences=["orders"], **post)),
        authentication("other-audience", at_liar("good", audiences=["bills"])),
        authentication("stale", at_liar("cached", cacheFor="60s")),
        authentication("fresh", at_liar("uncached", cacheFor="0s")),
        authentication("gone", introspection(f"http://127.0.0.1:{free_port()}/", "https://gone.example.com")),
        authentication("late", at_liar("late", timeout="0.3s")),
        *(authentication(name, at_liar(name)) for name in (*LIES, *TRUTHS)),
    ]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("opaque")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    leaf = SERVERS.issue("127.0.0.1")
    tls = {"cert": leaf.chain.decode(), "key": leaf.key.decode()}
    client = {
        "client_secret": PASSWORD,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
        "scope": "orders:read",
    }
    clients = [
        {**client, "client_id": "shop"},
        {**client, "client_id": "bound", "tls_client_certificate_bound_access_tokens": True},
    ]
    with OidcProvider(clients, tls=tls, scopes=["orders:read"]) as provider, Liar() as liar, Backend() as backend:
        more = policies(provider, liar, jwks)
        written = world(backend.port, (*PATHS, *LIES, *TRUTHS, *DISCOVERED), *more, first=(ADMINS,))
        with Up(folder, {"shop.yaml": written}) as up:
            yield Mesh(Shop(up, folder), provider, liar, backend, folder)


@enforces(
    f"{INTROSPECTION}issuer",
    f"{INTROSPECTION}endpoint",
    f"{INTROSPECTION}clientId",
    f"{INTROSPECTION}clientSecretRef.name",
    f"{INTROSPECTION}caSecretRef.name",
)
def test_an_opaque_token_is_what_its_issuer_says(mesh: Mesh) -> None:
    token = mesh.token()
    told = mesh.shop.ask("opaque", bearer=token)
    assert told.status == 200, told.line
    assert mesh.shop.ask("opaque").refused == (401, "credential-missing")
    assert mesh.shop.ask("opaque").response.headers["www-authenticate"] == "Bearer"
    assert mesh.shop.ask("opaque", bearer="made up").refused == (401, "token-inactive")
    assert mesh.shop.ask("opaque", bearer=mesh.shop.token(FIRST)).refused == (401, "token-inactive")
    mesh.provider.revoke("shop", PASSWORD, token, mesh.trust())
    assert mesh.shop.ask("opaque", bearer=token).refused == (401, "token-inactive")


def test_jwts_and_opaque_tokens_side_by_side(mesh: Mesh) -> None:
    shop, opaque, token = mesh.shop, mesh.token(), mesh.shop.token(FIRST)
    assert [shop.ask("either", bearer=one).status for one in (opaque, token)] == [200, 200]
    assert shop.ask("either").refused == (401, "credential-missing")
    assert shop.ask("either", bearer=f"{token[:-6]}AAAAAA").refused[0] == 401
    assert shop.ask("either", bearer=opaque, query=f"?access_token={token}").refused == (403, "credential-ambiguous")
    assert shop.ask("either", query="?access_token=garbage").refused == (401, "jwt-malformed")
    assert shop.ask("mixed", bearer=opaque).status == 200
    assert shop.ask("mixed", bearer=opaque, x_api_key="isk_1").refused == (400, "credential-ambiguous")


@enforces(f"{INTROSPECTION}boundToCertificate", "ClientAuthentication.spec.methods[].jwt.boundToCertificate")
def test_a_stolen_token_is_worth_nothing_without_its_certificate(mesh: Mesh) -> None:
    own, other = ROOT.issue("client.example.com"), ROOT.issue("thief.example.com")
    token = mesh.token(own)
    assert mesh.shop.ask("bound", own, bearer=token).status == 200
    assert mesh.shop.ask("bound", other, bearer=token).refused == (401, "token-not-bound")
    assert mesh.shop.ask("bound", bearer=token).refused == (401, "token-not-bound")
    assert mesh.shop.ask("bound", own, bearer=mesh.token()).refused == (401, "token-not-bound")
    # Whoever binds a token means it wherever the token is shown.
    assert mesh.shop.ask("opaque", bearer=token).refused == (401, "token-not-bound")
    print_of = thumbprint(own.chain.decode())
    bound = mesh.shop.token(FIRST, cnf={"x5t#S256": print_of})
    assert mesh.shop.ask("jwt-bound", own, bearer=bound).status == 200
    assert mesh.shop.ask("jwt-bound", other, bearer=bound).refused == (401, "token-not-bound")
    assert mesh.shop.ask("jwt-bound", bearer=bound).refused == (401, "token-not-bound")
    assert mesh.shop.ask("jwt-bound", own, bearer=mesh.shop.token(FIRST)).refused == (401, "token-not-bound")
    assert mesh.shop.ask("jwt-bound", own).refused == (401, "credential-missing")


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_answer_lets_nobody_in(mesh: Mesh, lie: str) -> None:
    assert mesh.shop.ask(lie, bearer="token").refused == (503, "introspection-unavailable")


@enforces(f"{INTROSPECTION}timeout")
def test_a_provider_that_is_gone_or_late_lets_nobody_in(mesh: Mesh) -> None:
    assert mesh.shop.ask("gone", bearer="token").refused == (503, "introspection-unavailable")
    log = mesh.shop.up.state / "log" / "credentials-0.log"
    eventually(lambda: "All connection attempts failed" in log.read_text(), 30)
    assert mesh.shop.ask("late", bearer="token").refused == (503, "introspection-unavailable")
    assert mesh.shop.ask("good", bearer="token").status == 200


def test_an_active_token_may_still_be_none_of_ours(mesh: Mesh) -> None:
    for name in ("stranger", "ended", "early"):
        assert mesh.shop.ask(name, bearer="token").refused == (401, "token-inactive")
    assert mesh.shop.ask("proof", bearer="token").refused == (401, "token-not-bound")


@enforces(f"{INTROSPECTION}audiences", f"{INTROSPECTION}clientAuth", f"{INTROSPECTION}clientSecretRef.key")
def test_a_token_for_others_is_refused(mesh: Mesh) -> None:
    assert mesh.shop.ask("audience", bearer="token").status == 200
    assert mesh.shop.ask("other-audience", bearer="token").refused == (403, "jwt-audience-invalid")
    shown = [(authorization, body) for name, authorization, body in mesh.liar.asked if name == "good"]
    assert any(not authorization and "client_secret=another+secret" in body for authorization, body in shown)
    assert any(authorization.startswith("Basic ") and "client_secret" not in body for authorization, body in shown)


@enforces(f"{INTROSPECTION}cacheFor")
def test_an_answer_is_believed_for_a_while(mesh: Mesh) -> None:
    for _ in range(3):
        assert mesh.shop.ask("stale", bearer="token").status == 200
        assert mesh.shop.ask("fresh", bearer="token").status == 200
    names = [name for name, _, _ in mesh.liar.asked]
    assert (names.count("cached"), names.count("uncached")) == (1, 3)


def test_no_secret_is_left_anywhere(mesh: Mesh) -> None:
    token = mesh.token()
    mesh.shop.ask("opaque", bearer=token)
    told = mesh.shop.ask("mixed", bearer=token)
    assert told.line
    words = (PASSWORD.encode(), b"another secret", token.encode())
    logs = dict(contents(mesh.shop.up.state / "log"))
    assert logs
    assert [(file, word) for file, content in logs.items() for word in words if word in content] == []


def test_a_route_that_a_claim_chose_asks_for_itself(mesh: Mesh) -> None:
    """jwt_authn has asked what the first route wanted; which one it is, the token's own claims say only then."""
    shop = mesh.shop
    assert [shop.ask("people", bearer=shop.token(issuer)).status for issuer in (FIRST, SECOND)] == [200, 200]
    assert shop.ask("people", bearer=shop.token(SECOND, role="admin")).status == 200
    assert shop.ask("people", bearer=shop.token(FIRST, role="admin")).refused == (401, "jwt-issuer-unknown")
    assert shop.ask("people").refused == (401, "credential-missing")


@pytest.mark.parametrize("name", DISCOVERED)
def test_a_discovery_document_that_lies_is_not_believed(mesh: Mesh, name: str) -> None:
    token = mesh.shop.token(mesh.liar.issuer(name))
    assert mesh.shop.ask(name, bearer=token).refused == (401, "jwks-unavailable")
    eventually(lambda: DISCOVERED[name] in mesh.shop.up.output, 30)
