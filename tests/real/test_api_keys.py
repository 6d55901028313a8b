"""API keys and certificates' consumers on real Envoys: who gets in, what the program sees, what is left of a key."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import KeyRecord
from isthmus.consumer.store import CredentialStore
from isthmus.state import StateDir
from tests.real.backend import Backend
from tests.real.client_authentication import Shop, authentication, world
from tests.real.edge import ROOT, named
from tests.real.fields import enforces
from tests.real.traffic import Manifest, dump, manifest, routes, service, to, workload
from tests.real.up import Up, arguments_of, children_of, contents, eventually, isthmus

pytestmark = pytest.mark.real

METHOD = "ClientAuthentication.spec.methods[]."
CONSUMER = "Consumer.spec."
PATHS = ("header", "query", "cookie", "anywhere", "either", "optional", "free")
REVOKED_SECONDS = 1.0
"""What is promised."""


def consumer(name: str, **spec: Any) -> Manifest:
    return {**manifest("Consumer", name, spec), "apiVersion": "isthmus.dev/v1alpha1"}


PARTNER = ROOT.issue("partner.example", "spiffe://partner.example/billing")
STRANGER = ROOT.issue("stranger.example")
POLICIES = (
    authentication("header", {"apiKey": {"headers": ["X-Api-Key"]}}),
    authentication("query", {"apiKey": {"query": ["api_key"]}}),
    authentication("cookie", {"apiKey": {"cookies": ["key"]}}),
    authentication(
        "anywhere", {"apiKey": {"headers": ["x-api-key", "authorization"], "query": ["k"], "cookies": ["key"]}}
    ),
    authentication("either", {"apiKey": {}}, {"certificate": {}}),
    authentication("optional", {"apiKey": {}}, required=False),
)
INSIDE = (
    routes(
        "inside",
        [named("shop")],
        {"name": "inside", "match": [{"uri": {"prefix": "/inside"}}], "route": [to("inner")]},
        gateways=["edge"],
    ),
    service("inner"),
    authentication(
        "inside",
        {"apiKey": {"headers": ["x-100%-key"]}},
        selector={"matchLabels": {"app": "inner"}},
    ),
)
"""A workload whose sidecar asks, wherever the call comes from."""
CONSUMERS = (
    consumer("mobile", groups=["apps", "eu"], plan="gold"),
    consumer("partner", certificates=["Partner.example"]),
    consumer("plain"),
)


class Keys:
    """``isthmus consumer``, on the state of a running mesh."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def run(self, *arguments: str) -> Any:
        done = isthmus("consumer", *arguments, "--state", str(self._state), "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def make(self, name: str = "shop/mobile", *options: str) -> str:
        return str(self.run("key", "create", name, *options)["key"])


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("keys")
    inner = workload("inner-1", backend.port, {"app": "inner"})
    manifests = {
        "shop.yaml": world(backend.port, PATHS, *POLICIES, *INSIDE, inner),
        "consumers.yaml": dump(*CONSUMERS),
    }
    with Up(folder, manifests) as up:
        yield Shop(up, folder)


@pytest.fixture(scope="module")
def keys(shop: Shop) -> Keys:
    return Keys(shop.up.state)


@pytest.fixture(scope="module")
def key(keys: Keys) -> str:
    return keys.make()


@enforces(f"{METHOD}apiKey.headers", f"{CONSUMER}groups", f"{CONSUMER}plan")
def test_by_a_header(shop: Shop, key: str) -> None:
    told = shop.ask("header", x_api_key=key)
    assert told.status == 200
    assert told.seen("x-api-key") == []
    assert told.seen("x-isthmus-consumer") == ["shop/mobile"]
    line = told.line
    assert (line["consumer_namespace"], line["consumer"]) == ("shop", "mobile")
    assert (line["consumer_groups"], line["consumer_plan"]) == (["apps", "eu"], "gold")
    assert line["client_method"] == "api-key"
    assert told.line["reason"] is None
    assert shop.ask("header").refused == (401, "credential-missing")
    assert shop.ask("header", x_api_key=ApiKey.make().text).refused == (401, "api-key-unknown")
    assert shop.ask("header", x_api_key="guessed").refused == (401, "api-key-unknown")
    assert shop.ask("header", query=f"?api_key={key}").refused == (401, "credential-missing")


def test_a_right_id_is_not_enough(shop: Shop, key: str) -> None:
    other = ApiKey(ApiKey.parse(key).id, ApiKey.make().secret)
    assert shop.ask("header", x_api_key=other.text).refused == (401, "api-key-unknown")


@enforces(f"{METHOD}apiKey.query")
def test_by_the_query(shop: Shop, key: str) -> None:
    told = shop.ask("query", query=f"?a=1%2f+2&api%5Fkey={key}&b=&c")
    assert told.status == 200
    assert told.response.json()["path"].partition("?")[2] == "a=1%2f+2&b=&c", "the rest, byte for byte"
    assert shop.ask("query", query=f"?api_key={key}").response.json()["path"].count("?") == 0
    assert shop.ask("query", x_api_key=key).refused == (401, "credential-missing")
    assert shop.ask("query", query="?api_key=").refused == (401, "api-key-unknown")


@enforces(f"{METHOD}apiKey.cookies")
def test_by_a_cookie(shop: Shop, key: str) -> None:
    told = shop.ask("cookie", cookie=f"theme=dark; key={key}; lang=en")
    assert told.status == 200
    assert told.seen("cookie") == ["theme=dark; lang=en"]
    assert shop.ask("cookie", cookie=f"key={key}").seen("cookie") == []
    assert shop.ask("cookie", cookie="theme=dark").refused == (401, "credential-missing")


def test_in_authorization_by_its_prefix(shop: Shop, key: str) -> None:
    for scheme in ("Bearer ", "ApiKey ", "bearer ", ""):
        told = shop.ask("anywhere", authorization=f"{scheme}{key}")
        assert (told.status, told.seen("authorization")) == (200, [])
    told = shop.ask("anywhere", authorization="Basic YWxpY2U6eA==", x_api_key=key)
    assert (told.status, told.seen("authorization")) == (200, ["Basic YWxpY2U6eA=="])


def test_two_keys_are_one_too_many(shop: Shop, key: str) -> None:
    assert shop.ask("anywhere", x_api_key=key, query=f"?k={key}").refused == (400, "credential-ambiguous")
    assert shop.ask("anywhere", x_api_key=key, cookie=f"key={key}").refused == (400, "credential-ambiguous")
    assert shop.ask("query", query=f"?api_key={key}&api_key={key}").refused == (400, "credential-ambiguous")


@enforces(f"{METHOD}certificate", f"{CONSUMER}certificates")
def test_by_the_certificate_of_the_connection(shop: Shop, keys: Keys, key: str) -> None:
    told = shop.ask("either", PARTNER)
    assert (told.status, told.seen("x-isthmus-consumer")) == (200, ["shop/partner"])
    assert told.line["client_method"] == "certificate"
    assert shop.ask("either", STRANGER).refused == (401, "consumer-unknown")
    assert shop.ask("either").refused == (401, "credential-missing")
    # A key that is shown says more than a certificate that goes with every request.
    assert shop.ask("either", PARTNER, x_api_key=key).seen("x-isthmus-consumer") == ["shop/mobile"]
    assert shop.ask("either", PARTNER, x_api_key=ApiKey.make().text).refused == (401, "api-key-unknown")


def test_where_none_is_required_a_bad_one_is_refused(shop: Shop, key: str) -> None:
    assert shop.ask("optional").status == 200
    assert shop.ask("optional", x_api_key=key).seen("x-isthmus-consumer") == ["shop/mobile"]
    assert shop.ask("optional", x_api_key="wrong").refused == (401, "api-key-unknown")


def test_nobody_says_who_he_is_by_himself(shop: Shop, key: str) -> None:
    for path in ("free", "optional"):
        for name in ("x_isthmus_consumer", "X-ISTHMUS-Consumer"):
            assert shop.ask(path, **{name: "shop/partner"}).seen("x-isthmus-consumer") == []
    told = shop.ask("header", x_api_key=key, x_isthmus_consumer="shop/partner")
    assert told.seen("x-isthmus-consumer") == ["shop/mobile"]


def test_routes_that_nothing_is_said_of_ask_nobody(shop: Shop) -> None:
    told = shop.ask("free", x_api_key="whatever")
    assert (told.status, told.seen("x-api-key")) == (200, ["whatever"])


def test_before_a_workload_whatever_gateway_it_comes_by(shop: Shop, key: str) -> None:
    told = shop.ask("inside", **{"x_100%_key": key})
    assert (told.status, told.seen("x-isthmus-consumer"), told.seen("x-100%-key")) == (200, ["shop/mobile"], [])
    assert shop.ask("inside").status == 401
    assert shop.ask("inside", x_api_key=key).status == 401

    def refused() -> list[Any]:
        lines = shop.up.access_log("sidecar~shop~inner-1")
        return [line["reason"] for line in lines if line["status"] == 401]

    eventually(lambda: refused() == ["credential-missing"] * 2, 60)


def test_an_expired_key(shop: Shop, keys: Keys) -> None:
    ending = keys.make("shop/mobile", "--expires", "1s")
    eventually(lambda: shop.ask("header", x_api_key=ending).refused == (401, "api-key-expired"), 60)


def test_rotated_both_are_good_for_a_while(shop: Shop, keys: Keys) -> None:
    old = keys.make()
    assert shop.ask("header", x_api_key=old).status == 200
    new = keys.run("key", "rotate", ApiKey.parse(old).id, "--grace", "1h")["key"]
    assert [shop.ask("header", x_api_key=one).status for one in (old, new)] == [200, 200]
    newest = keys.run("key", "rotate", ApiKey.parse(new).id, "--grace", "1s")["key"]
    eventually(lambda: shop.ask("header", x_api_key=new).refused == (401, "api-key-expired"), 60)
    assert [shop.ask("header", x_api_key=one).status for one in (old, newest)] == [200, 200]


def test_a_key_that_was_asked_for_before_it_was_made(shop: Shop, keys: Keys) -> None:
    """That it is unknown was remembered."""
    made = ApiKey.make()
    assert shop.ask("header", x_api_key=made.text).status == 401
    store = CredentialStore.of(StateDir.at(shop.up.state))
    store.add(KeyRecord(made.id, "shop/mobile", made.digest, datetime.now(UTC)))
    eventually(lambda: shop.ask("header", x_api_key=made.text).status == 200, 60)


def test_a_revoked_key_is_refused_within_a_second(shop: Shop, keys: Keys) -> None:
    key = keys.make()
    with shop.up.client() as client:

        def asked() -> int:
            response = shop.up.send(
                client,
                "GET",
                "http://plain.example.com/header",
                headers={"x-api-key": key, "host": "plain.example.com"},
            )
            return response.status_code

        assert [asked() for _ in range(20)] == [200] * 20
        keys.run("key", "revoke", ApiKey.parse(key).id)
        revoked = begun = time.monotonic()
        while asked() == 200:
            assert begun - revoked < REVOKED_SECONDS, "asked a second later, and let in"
            time.sleep(0.02)
            begun = time.monotonic()
        assert {asked() for _ in range(20)} == {401}
    assert shop.ask("header", x_api_key=key).refused == (401, "api-key-revoked")


def test_who_is_in_no_manifest_any_more_is_nobody(shop: Shop, keys: Keys) -> None:
    key = keys.make("shop/plain")
    assert shop.ask("header", x_api_key=key).status == 200
    shop.up.write("consumers.yaml", dump(*CONSUMERS[:2]))
    try:
        eventually(lambda: shop.ask("header", x_api_key=key).refused == (401, "consumer-unknown"), 60)
        made = isthmus("consumer", "key", "create", "shop/plain", "--state", str(shop.up.state))
        assert "note: no Consumer shop/plain is in the manifests" in made.stderr
    finally:
        shop.up.write("consumers.yaml", dump(*CONSUMERS))
    eventually(lambda: shop.ask("header", x_api_key=key).status == 200, 60)


def test_the_commands_know_the_consumers(keys: Keys, key: str) -> None:
    rows = {row["consumer"]: row for row in keys.run("list")}
    assert rows["shop/mobile"]["groups"] == ["apps", "eu"]
    assert rows["shop/mobile"]["keys"] >= 1
    assert rows["shop/partner"]["certificates"] == ["partner.example"], "in whatever case it was written"
    assert ApiKey.parse(key).id in {one["id"] for one in keys.run("key", "list", "mobile")}


def test_without_its_process_nobody_gets_in(shop: Shop, key: str) -> None:
    pid = next(pid for pid in children_of(shop.up.process.pid) if "isthmus.decide.client.server" in arguments_of(pid))
    os.kill(pid, signal.SIGSTOP)
    try:
        assert shop.ask("header", x_api_key=key).refused == (503, "policy-service-unavailable")
        assert shop.ask("free").status == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: shop.ask("header", x_api_key=key).status == 200, 60)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: shop.ask("header", x_api_key=key).status == 200, 60)


def test_no_key_is_written_anywhere(shop: Shop, key: str, backend: Backend) -> None:
    """Last: whatever the tests before did with it."""
    secret = ApiKey.parse(key).secret.encode()
    assert [str(file) for file, content in contents(shop.up.state) if secret in content] == []
    for proxy in [*shop.up.ready["gateways"], *shop.up.ready["workloads"]]:
        transport = httpx.HTTPTransport(uds=proxy["admin_socket"], verify=False)
        with httpx.Client(transport=transport, trust_env=False, verify=False, timeout=20) as admin:
            assert secret not in admin.get("http://envoy/config_dump?include_eds").content
    seen = [saw for saw in backend.seen if secret.decode() in json.dumps(saw)]
    assert seen == []
    digest = ApiKey.parse(key).digest
    assert {file.parent.name for file, content in contents(shop.up.state) if digest in content} == {"credentials"}
