"""API keys in a real PostgreSQL: what several machines would share, and what is answered while it is away."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.place import remember
from isthmus.state import StateDir
from tests.real.backend import Backend
from tests.real.client_authentication import Shop, authentication, world
from tests.real.postgres import Postgres
from tests.real.test_api_keys import Keys, consumer
from tests.real.up import Up, contents, eventually

pytestmark = pytest.mark.real

PASSWORD = "hunter2-hunter2"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        running.query("127.0.0.1", running.port, "create database credentials")
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("keys-postgres")
    url = f"postgresql://shop:{PASSWORD}@127.0.0.1:{postgres.port}/credentials"
    remember(StateDir.at(folder / "state").open(), url)
    policies = (
        authentication("header", {"apiKey": {}}),
        authentication("certificate", {"certificate": {}}),
        consumer("mobile"),
    )
    with Backend() as backend:
        manifests = {"shop.yaml": world(backend.port, ("header", "certificate", "free"), *policies)}
        with Up(folder, manifests) as up:
            yield Shop(up, folder)


@pytest.fixture(scope="module")
def keys(shop: Shop) -> Keys:
    return Keys(shop.up.state)


def test_made_used_and_revoked(shop: Shop, keys: Keys) -> None:
    key = keys.make()
    assert shop.ask("header", x_api_key=key).seen("x-isthmus-consumer") == ["shop/mobile"]
    assert shop.ask("header", x_api_key=ApiKey.make().text).refused == (401, "api-key-unknown")
    keys.run("key", "revoke", ApiKey.parse(key).id)
    eventually(lambda: shop.ask("header", x_api_key=key).refused == (401, "api-key-revoked"))
    assert not (shop.up.state / "credentials" / "keys.sqlite").exists()


def test_while_it_is_away_no_key_is_good(shop: Shop, keys: Keys, postgres: Postgres) -> None:
    key = keys.make()
    assert shop.ask("header", x_api_key=key).status == 200

    def away(yes: bool) -> None:
        allowed = "false" if yes else "true"
        postgres.query("127.0.0.1", postgres.port, f"alter database credentials with allow_connections {allowed}")
        ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'credentials'"
        postgres.query("127.0.0.1", postgres.port, ended)

    away(True)
    try:
        eventually(lambda: shop.ask("header", x_api_key=key).refused == (503, "policy-service-unavailable"))
        # What needs no store goes on.
        assert shop.ask("free").status == 200
        assert shop.ask("certificate").refused == (401, "credential-missing")
        eventually(lambda: "no API key can be checked: postgresql://127.0.0.1" in _service_log(shop))
    finally:
        away(False)
    eventually(lambda: shop.ask("header", x_api_key=key).status == 200)


def test_its_password_is_in_one_file(shop: Shop, keys: Keys) -> None:
    shown = keys.run("store")["store"]
    assert shown.startswith("postgresql://127.0.0.1")
    secret = PASSWORD.encode()
    holding = [str(file.relative_to(shop.up.state)) for file, content in contents(shop.up.state) if secret in content]
    assert holding == ["credentials/store-url"]
    assert PASSWORD not in shop.up.output
    transport = httpx.HTTPTransport(uds=shop.up.ready["gateways"][0]["admin_socket"], verify=False)
    with httpx.Client(transport=transport, trust_env=False, verify=False, timeout=20) as admin:
        assert PASSWORD not in admin.get("http://envoy/config_dump?include_eds").text


def _service_log(shop: Shop) -> str:
    return "".join(file.read_text() for file in (shop.up.state / "log").glob("credentials-0*"))
