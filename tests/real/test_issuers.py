"""Keys of a real HTTPS issuer that is slow, wrong, gone, back and rotating: what becomes of its tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isthmus.jwks.signing import SigningKey, mint, new_signing_key, public_key_set
from tests.jwks.provider import Authority, Provider, answer, later, providing
from tests.real.backend import Backend
from tests.real.manifests import service, workload_entry
from tests.real.up import Up, eventually

MANIFESTS = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web.example.com]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: web}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  jwtRules: [{{issuer: "{issuer}"}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: signed-in, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  rules: [{{from: [{{source: {{requestPrincipals: ["*"]}}}}]}}]
"""


class Issuer:
    """A provider in a thread of its own: ``isthmus up`` is another process and asks when it likes."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.make(folder)
        self._context = self.authority.server_context(folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._provided = providing(self._context)
        self.key = new_signing_key()
        self.provider: Provider

    def __enter__(self) -> Issuer:
        self._thread.start()
        self.provider = self._call(self._provided.__aenter__())
        self.provider.publish(public_key_set(self.key).text)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._provided.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def token(self, key: SigningKey | None = None) -> str:
        return mint(
            key or self.key,
            issuer=self.provider.url,
            subject="alice",
            audiences=(),
            claims={},
            expires_in=timedelta(minutes=5),
            now=datetime.now(UTC),
        )


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with Issuer(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Up]:
    with Backend() as backend:
        manifests = {
            "shop.yaml": MANIFESTS.format(issuer=issuer.provider.url)
            + "---\n"
            + service("web", "shop")
            + "---\n"
            + workload_entry("web-1", "shop", "web", backend.port),
        }
        env = {"SSL_CERT_FILE": str(issuer.authority.bundle)}
        with Up(tmp_path_factory.mktemp("issuers"), manifests, "--jwks-refresh", "1s", env=env) as running:
            yield running


def status(up: Up, token: str | None) -> int:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return up.get("http://web.example.com/", headers=headers).status_code


def test_keys_are_discovered(up: Up, issuer: Issuer) -> None:
    eventually(lambda: status(up, issuer.token()) == 200)
    assert status(up, None) == 403
    assert status(up, issuer.token(new_signing_key())) == 401


def test_wrong_answers_leave_the_last_good_keys_in_force(up: Up, issuer: Issuer) -> None:
    for wrong in (answer("no JSON"), answer(status=500), answer('{"keys": []}'), answer("x" * 2_000_000)):
        asked = len(issuer.provider.asked)
        issuer.provider.answers["/keys"] = wrong
        eventually(lambda asked=asked: len(issuer.provider.asked) > asked + 1)
        assert status(up, issuer.token()) == 200
    assert "the last good ones stay in force" in up.output


def test_slow_issuer_delays_nothing(up: Up, issuer: Issuer) -> None:
    asked = len(issuer.provider.asked)
    issuer.provider.answers["/keys"] = later(answer(public_key_set(issuer.key).text), 3.0)
    eventually(lambda: len(issuer.provider.asked) > asked)
    assert status(up, issuer.token()) == 200


def test_rotated_keys_are_taken_up(up: Up, issuer: Issuer) -> None:
    old, new = issuer.key, new_signing_key()
    assert status(up, issuer.token(new)) == 401
    issuer.provider.publish(public_key_set(new).text)
    eventually(lambda: status(up, issuer.token(new)) == 200)
    eventually(lambda: status(up, issuer.token(old)) == 401)
    issuer.key = new


def test_gone_issuer_costs_nothing_even_over_a_restart(up: Up, issuer: Issuer) -> None:
    issuer.provider.answers.clear()
    asked = len(issuer.provider.asked)
    eventually(lambda: len(issuer.provider.asked) > asked)
    assert status(up, issuer.token()) == 200
    assert up.stop() == 0
    up.start()
    assert status(up, issuer.token()) == 200
