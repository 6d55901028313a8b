"""AccessPolicies over what a decision service verified: consumers by their API keys, and tokens by introspection."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.real.backend import Backend
from tests.real.client_authentication import FIRST, Shop, authentication, issuers, jwt, world
from tests.real.fields import enforces
from tests.real.traffic import Manifest, manifest
from tests.real.traffic_credentials import secret
from tests.real.up import Up, development_jwks, isthmus

pytestmark = pytest.mark.real

RULE = "AccessPolicy.spec.rules[]."
PATHS = ("consumers", "plans", "groups", "condition", "opaque", "own", "roles")
ACTIVE: dict[str, dict[str, Any]] = {
    "writer": {"active": True, "sub": "alice", "scope": "read write", "roles": ["manager"], "limit": 5},
    "reader": {"active": True, "sub": "bob", "scope": "read", "groups": ["apps"]},
}


def ours(kind: str, name: str, spec: Manifest) -> Manifest:
    return {**manifest(kind, name, spec), "apiVersion": "isthmus.dev/v1alpha1"}


def access(route: str, *rules: Manifest) -> Manifest:
    target = {"kind": "VirtualService", "name": "shop", "sectionName": route}
    return ours("AccessPolicy", route, {"targetRefs": [target], "rules": list(rules)})


class Introspection:
    """RFC 7662, of the tokens in ACTIVE."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                content = json.dumps(ACTIVE.get(asked["token"][0], {"active": False})).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Introspection:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def policies(jwks: str, endpoint: str) -> tuple[Manifest, ...]:
    opaque = {
        "introspection": {
            "issuer": "https://opaque.example.com",
            "endpoint": endpoint,
            "clientId": "shop",
            "clientSecretRef": {"name": "provider"},
        }
    }
    keyed = [
        authentication(route, {"apiKey": {}}, required=False) for route in ("consumers", "plans", "groups", "condition")
    ]
    return (
        *keyed,
        issuers(jwks, FIRST),
        *(authentication(route, jwt(FIRST), opaque) for route in ("opaque", "own", "roles")),
        secret("provider", type="Opaque", data={"client-secret": b"of the gateway, 32 characters long"}),
        ours("Consumer", "mobile", {"groups": ["apps", "eu"], "plan": "gold"}),
        ours("Consumer", "plain", {}),
        {**ours("Consumer", "mobile", {"groups": ["other"]}), "metadata": {"name": "mobile", "namespace": "bank"}},
        access("consumers", {"consumers": ["mobile"]}),
        access("plans", {"plans": ["gold", "platinum"]}),
        access("groups", {"groups": ["apps"]}),
        access("condition", {"when": "consumer == 'shop/mobile' && 'eu' in groups && plan == 'gold'"}),
        access("opaque", {"scopes": ["write"]}),
        access("own", {"paths": ["/own/{any}"], "when": "claims.sub == 'alice' && int(claims.limit) == 5"}),
        access("roles", {"when": "'manager' in claims.roles"}),
    )


@dataclass(frozen=True, slots=True)
class Mesh:
    shop: Shop
    keys: dict[str, str]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("access-clients")
    jwks = development_jwks(folder / "state", folder / "jwks.json").read_text()
    with Backend() as backend, Introspection() as endpoint:
        written = world(backend.port, PATHS, *policies(jwks, endpoint.url))
        with Up(folder, {"shop.yaml": written}) as up:
            keys = {name: made(up.state, name) for name in ("shop/mobile", "shop/plain", "bank/mobile")}
            yield Mesh(Shop(up, folder), keys)


def made(state: Path, consumer: str) -> str:
    done = isthmus("consumer", "key", "create", consumer, "--state", str(state), "-o", "json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["key"])


@enforces(f"{RULE}consumers", f"{RULE}plans")
@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ("consumers", "client-not-allowed"),
        ("plans", "client-not-allowed"),
        ("groups", "group-missing"),
        ("condition", "condition-not-met"),
    ],
)
def test_consumers_their_plans_and_groups(mesh: Mesh, route: str, reason: str) -> None:
    assert mesh.shop.ask(route, x_api_key=mesh.keys["shop/mobile"]).status == 200
    for other in ("shop/plain", "bank/mobile"):
        assert mesh.shop.ask(route, x_api_key=mesh.keys[other]).refused == (403, reason)
    nobody = mesh.shop.ask(route)
    assert nobody.refused == (401, "not-authenticated")
    assert nobody.response.headers["www-authenticate"] == "Bearer, ApiKey"


def test_a_credential_of_another_sort_is_a_credential(mesh: Mesh) -> None:
    """401 is for those who brought none."""
    assert mesh.shop.ask("consumers", bearer=mesh.shop.token(FIRST)).refused == (403, "client-not-allowed")


def test_claims_are_the_same_of_a_token_that_its_issuer_was_asked_about(mesh: Mesh) -> None:
    for route in ("opaque", "own", "roles"):
        assert mesh.shop.ask(route, bearer="writer").status == 200
        assert mesh.shop.ask(route, bearer="nobody's").status == 401
    assert mesh.shop.ask("opaque", bearer="reader").refused == (403, "scope-missing")
    assert mesh.shop.ask("own", bearer="reader").refused == (403, "condition-not-met")
    assert mesh.shop.ask("roles", bearer="reader").refused == (403, "condition-not-met")
    token = mesh.shop.token(FIRST, scope="write", roles=["manager"], limit=5)
    for route in ("opaque", "own", "roles"):
        assert mesh.shop.ask(route, bearer=token).status == 200
