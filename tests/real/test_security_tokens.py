"""RequestAuthentication on real Envoys: where a token is looked for, whose it may be, what the program gets of it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_peer import Answer, Ask, Issuer, bearer, inbound, logged, send
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

RULE = "RequestAuthentication.spec.jwtRules[]."
_KEYS_SECONDS = 1.0


class Keys:
    """A provider that publishes ``file`` on its port; under ``/slow`` after a second."""

    def __init__(self, file: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/slow":
                    time.sleep(_KEYS_SECONDS)
                self.send_response(200 if self.path in ("/keys", "/slow") else 404)
                self.end_headers()
                self.wfile.write(file.read_bytes())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Keys:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def rules(jwks: str, url: str) -> dict[str, dict[str, Any]]:
    """By issuer: each shows one option, and ``plain`` none."""
    of_state: dict[str, dict[str, Any]] = {
        "plain": {},
        "aud": {"audiences": ["orders", "bills"]},
        "header": {"fromHeaders": [{"name": "X-Token", "prefix": "Token "}, {"name": "x-bare"}]},
        "param": {"fromParams": ["ticket"]},
        "cookie": {"fromCookies": ["session"]},
        "forward": {"forwardOriginalToken": True},
        "payload": {"outputPayloadToHeader": "X-Payload"},
        "claims": {
            "outputClaimToHeaders": [
                {"header": "x-user", "claim": "sub"},
                {"header": "x-realm", "claim": "realm.name"},
                {"header": "x-level", "claim": "level"},
                {"header": "x-groups", "claim": "groups"},
            ]
        },
        "spaced": {"spaceDelimitedClaims": ["tags"]},
    }
    known = {name: {"jwks": jwks, **options} for name, options in of_state.items()}
    return {
        **known,
        "fetched": {"jwksUri": f"{url}/keys"},
        "missing": {"jwksUri": f"{url}/nothing"},
        "patient": {"jwksUri": f"{url}/slow"},
        "hasty": {"jwksUri": f"{url}/slow", "timeout": "0.2s"},
    }


def issuer(name: str) -> str:
    return f"https://{name}.example.com"


def document(kind: str, name: str, spec: dict[str, Any], namespace: str = "shop") -> str:
    metadata = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})


def workload(name: str, port: int) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: {name}, namespace: shop}}
spec:
  labels: {{app: {name}}}
  ports: [{{name: http, number: 8080, listen: {port}}}]
---
"""


NEEDED = document(
    "AuthorizationPolicy",
    "needed",
    {
        "action": "DENY",
        "rules": [
            {
                "from": [{"source": {"notRequestPrincipals": ["*"]}}],
                "to": [{"operation": {"paths": ["/need*"]}}],
            },
            {
                "to": [{"operation": {"paths": ["/tagged"]}}],
                "when": [{"key": "request.auth.claims[tags]", "notValues": ["red"]}],
            },
        ],
    },
)


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    web: Path

    def token(self, name: str, audiences: tuple[str, ...] = (), **claims: Any) -> str:
        return bearer(self.up, issuer(name), audiences=audiences, **claims)

    def ask(self, path: str, headers: dict[str, str] | None = None, workload: str = "strict") -> Answer:
        ask = Ask(path, headers=headers or {}, certificate=self.web)
        return send(inbound(self.up, workload, 8080), ask)

    def bearing(self, path: str, token: str, workload: str = "strict") -> Answer:
        return self.ask(path, {"authorization": f"Bearer {token}"}, workload)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("tokens")
    file = development_jwks(folder / "state", folder / "jwks.json")
    with Backend() as backend, Keys(file) as keys:
        by_issuer = rules(file.read_text(), keys.url)
        written = [{"issuer": issuer(name), **rule} for name, rule in by_issuer.items()]
        selector = {"matchLabels": {"app": "strict"}}
        first, second = ({"selector": selector, "jwtRules": part} for part in (written[:4], written[4:]))
        everywhere = {"jwtRules": [{"issuer": issuer("root"), "jwks": file.read_text()}]}
        manifests = {
            "mesh.yaml": workload("strict", backend.port) + workload("lax", backend.port),
            "first.json": document("RequestAuthentication", "first", first),
            "second.json": document("RequestAuthentication", "second", second),
            "root.json": document("RequestAuthentication", "everywhere", everywhere, "istio-system"),
            "needed.json": NEEDED,
        }
        with Up(folder, manifests) as up:
            yield Mesh(up, Issuer.of(up, folder).certificate("spiffe://cluster.local/ns/shop/sa/web"))


@enforces(f"{RULE}issuer", f"{RULE}jwks")
def test_a_token_of_a_known_issuer_with_its_key_passes(mesh: Mesh, tmp_path: Path) -> None:
    good = mesh.token("plain")
    assert mesh.bearing("/need", good).status == 200
    assert mesh.bearing("/", mesh.token("stranger")).status == 401
    head, body, signature = good.split(".")
    forged = f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    assert mesh.bearing("/", forged).status == 401


def test_no_token_is_none(mesh: Mesh) -> None:
    assert mesh.ask("/").status == 200
    assert mesh.ask("/need").status == 403


@enforces("RequestAuthentication.spec.selector.matchLabels")
def test_whom_it_speaks_of(mesh: Mesh) -> None:
    """The two of the namespace and the root namespace's are united where they meet."""
    assert mesh.bearing("/", mesh.token("plain"), "lax").status == 401, "an issuer that nobody named here"
    assert mesh.bearing("/need", mesh.token("root"), "lax").status == 200
    assert mesh.bearing("/need", mesh.token("root")).status == 200
    assert mesh.bearing("/need", mesh.token("spaced")).status == 200


@enforces(f"{RULE}audiences")
def test_audiences(mesh: Mesh) -> None:
    assert mesh.bearing("/need", mesh.token("aud", ("orders",))).status == 200
    assert mesh.bearing("/need", mesh.token("aud", ("x", "bills"))).status == 200
    assert mesh.bearing("/", mesh.token("aud", ("x",))).status == 403
    assert mesh.bearing("/", mesh.token("aud")).status == 403
    assert mesh.bearing("/need", mesh.token("plain", ("x",))).status == 200


@enforces(f"{RULE}fromHeaders[].name", f"{RULE}fromHeaders[].prefix")
def test_from_headers(mesh: Mesh) -> None:
    token = mesh.token("header")
    assert mesh.ask("/need", {"x-token": f"Token {token}"}).status == 200
    assert mesh.ask("/need", {"x-bare": token}).status == 200
    assert mesh.ask("/need", {"x-token": token}).status == 403, "without its prefix it is none"
    assert mesh.ask("/need", {"x-other": token}).status == 403
    assert mesh.bearing("/need", token).status in (401, 403), "not where others keep theirs"
    assert mesh.ask("/need", {"x-bare": token + "x"}).status == 401
    assert mesh.ask("/need", {"x-bare": token}).seen("x-bare") is None, "taken away"


@enforces(f"{RULE}fromParams")
def test_from_params(mesh: Mesh) -> None:
    token = mesh.token("param")
    assert mesh.ask(f"/need?ticket={token}").status == 200
    assert mesh.ask(f"/need?other={token}").status == 403
    assert mesh.ask(f"/need?ticket={token}x").status == 401
    answer = mesh.ask(f"/need?ticket={token}")
    assert token not in json.dumps(logged(mesh.up, "sidecar~shop~strict", answer))


@enforces(f"{RULE}fromCookies")
def test_from_cookies(mesh: Mesh) -> None:
    token = mesh.token("cookie")
    assert mesh.ask("/need", {"cookie": f"a=b; session={token}"}).status == 200
    assert mesh.ask("/need", {"cookie": f"other={token}"}).status == 403
    assert mesh.ask("/need", {"cookie": f"session={token}x"}).status == 401


@enforces(f"{RULE}forwardOriginalToken")
def test_the_token_goes_on_only_if_it_is_told_to(mesh: Mesh) -> None:
    token = mesh.token("forward")
    assert mesh.bearing("/need", token).seen("authorization") == f"Bearer {token}"
    assert mesh.bearing("/need", mesh.token("plain")).seen("authorization") is None


@enforces(f"{RULE}outputPayloadToHeader")
def test_the_payload_in_a_header(mesh: Mesh) -> None:
    token = mesh.token("payload")
    assert mesh.bearing("/need", token).seen("x-payload") == token.split(".")[1]
    assert mesh.bearing("/need", mesh.token("plain")).seen("x-payload") is None
    assert mesh.ask("/", {"x-payload": "spoofed"}).seen("x-payload") is None


@enforces(f"{RULE}outputClaimToHeaders[].header", f"{RULE}outputClaimToHeaders[].claim")
def test_claims_in_headers(mesh: Mesh) -> None:
    claims = {"realm": {"name": "north"}, "level": 7, "groups": ["a"]}
    answer = mesh.bearing("/need", mesh.token("claims", **claims))
    groups = base64.b64encode(b'["a"]').decode()
    assert [answer.seen(name) for name in ("x-user", "x-realm", "x-level")] == ["alice", "north", "7"]
    assert answer.seen("x-groups") == groups
    spoofed = mesh.ask("/", {"x-user": "mallory", "x-realm": "south"})
    assert [spoofed.seen(name) for name in ("x-user", "x-realm")] == [None, None]
    absent = mesh.bearing("/need", mesh.token("claims"))
    assert [absent.seen(name) for name in ("x-user", "x-realm")] == ["alice", None]


@enforces(f"{RULE}spaceDelimitedClaims")
def test_a_claim_of_words(mesh: Mesh) -> None:
    assert mesh.bearing("/tagged", mesh.token("spaced", tags="blue red")).status == 200
    assert mesh.bearing("/tagged", mesh.token("spaced", tags="blue green")).status == 403
    assert mesh.bearing("/tagged", mesh.token("plain", tags="blue red")).status == 403, "one text, not two words"


@enforces(f"{RULE}jwksUri", f"{RULE}timeout")
def test_keys_are_fetched(mesh: Mesh) -> None:
    assert eventually(lambda: mesh.bearing("/need", mesh.token("fetched")).status == 200)
    assert mesh.bearing("/need", mesh.token("missing")).status == 401
    assert eventually(lambda: mesh.bearing("/need", mesh.token("patient")).status == 200)
    hasty = mesh.bearing("/need", mesh.token("hasty"))
    assert hasty.status == 401, "its keys took longer than it waits"
    shown = eventually(lambda: (text := mesh.up.output) and "hasty" in text and text)
    assert "no whole answer in 0.2 s" in shown or "no answer in time" in shown
