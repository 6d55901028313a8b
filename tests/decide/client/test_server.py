"""The service as the shell runs it: settings come and go, the store is or is not there."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.place import FILE
from isthmus.consumer.record import KeyRecord
from isthmus.consumer.store import CredentialStore
from isthmus.decide.client.server import CredentialService, start
from isthmus.decide.client.wire import to_plain
from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3
from isthmus.model.client_authentication import ACCEPTS, Accepted, ApiKeyMethod
from isthmus.model.key_lookup import SOCKET

from .playing import PlayedKeys

MOBILE = {"shop/mobile": {"groups": [], "plan": None, "certificates": []}}


def told(store: dict[str, Any] | None, consumers: dict[str, Any] = MOBILE) -> dict[str, Any]:
    return {"store": store, "consumers": consumers, "introspection": {}}


class Call:
    """What grpc gives a method beside the request."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple(metadata.items())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


async def ask(service: CredentialService, key: str) -> tuple[int, str]:
    """Status (200: let in) and reason."""
    request = ext_authz_service_v3.CheckRequest()
    request.attributes.context_extensions[ACCEPTS] = Accepted(api_key=ApiKeyMethod(("x-key",))).text
    header = core_v3.HeaderValue(key="x-key", raw_value=key.encode())
    request.attributes.request.http.header_map.headers.append(header)
    answer = await service._check(request, Call())
    reason = to_plain(answer.dynamic_metadata.fields["reason"]) or ""
    return (200 if answer.status.code == 0 else answer.denied_response.status.code), reason


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[CredentialService]:
    running = await start(told({"file": True}), tmp_path)
    yield running
    await running.close()


def made(state: Path, consumer: str = "shop/mobile") -> ApiKey:
    key = ApiKey.make()
    store = CredentialStore.at_file(state / FILE)
    store.add(KeyRecord(key.id, consumer, key.digest, datetime.now(UTC)))
    store.close()
    return key


async def test_a_key_of_the_machines_own_store(service: CredentialService, tmp_path: Path) -> None:
    assert await ask(service, made(tmp_path).text) == (200, "")
    assert await ask(service, ApiKey.make().text) == (401, "api-key-unknown")


async def test_consumers_come_and_go(service: CredentialService, tmp_path: Path) -> None:
    key = made(tmp_path, "shop/partner").text
    assert await ask(service, key) == (401, "consumer-unknown")
    await service.update(told({"file": True}, {"shop/partner": MOBILE["shop/mobile"]}))
    assert await ask(service, key) == (200, "")


async def test_a_store_that_is_elsewhere(service: CredentialService, tmp_path: Path) -> None:
    key = made(tmp_path).text
    for elsewhere in ({}, {"url": "postgresql://127.0.0.1:1/none"}, None):
        await service.update(told(elsewhere))
        assert await ask(service, key) == (503, "policy-service-unavailable")
    await service.update(told({"file": True}))
    assert await ask(service, key) == (200, "")


async def test_no_key_is_refused_because_its_store_is_opened_anew(service: CredentialService, tmp_path: Path) -> None:
    keys = [made(tmp_path).text for _ in range(20)]
    answers: Counter[tuple[int, str]] = Counter()
    over = asyncio.Event()

    async def go_on_asking(key: str) -> None:
        while not over.is_set():
            answers[await ask(service, key)] += 1
            await asyncio.sleep(0.001)

    assert await ask(service, keys[0]) == (200, "")
    asking = [asyncio.create_task(go_on_asking(key)) for key in keys]
    for turn in range(50):
        await service.update(told({"file": True, "turn": turn}))
        await asyncio.sleep(0.01)
    over.set()
    await asyncio.gather(*asking)
    assert answers.keys() == {(200, "")}
    assert not service._following.done(), "the change log is still looked at"


async def test_a_store_of_a_control_plane_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path)
    keys = PlayedKeys(ApiKey.make())
    running = await start(told({"control_plane": True}), tmp_path)
    try:
        assert await ask(running, keys.key.text) == (503, "policy-service-unavailable"), "nobody is there"
        async with keys.at(tmp_path / SOCKET):
            await until(running, keys.key, (200, ""))
            assert await ask(running, ApiKey.make().text) == (401, "api-key-unknown")
            keys.revoke()
            await until(running, keys.key, (401, "api-key-revoked"))
    finally:
        await running.close()


async def until(service: CredentialService, key: ApiKey, wanted: tuple[int, str]) -> None:
    deadline = time.monotonic() + 60
    while await ask(service, key.text) != wanted:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_store_without_the_right_to_read_it(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir(parents=True)
    running = await start(told({"file": True}), tmp_path)
    try:
        assert await ask(running, ApiKey.make().text) == (503, "policy-service-unavailable")
    finally:
        await running.close()


async def test_a_store_that_was_removed_holds_nobody(service: CredentialService, tmp_path: Path) -> None:
    key = made(tmp_path).text
    assert await ask(service, key) == (200, "")
    shutil.rmtree((tmp_path / FILE).parent)
    deadline = time.monotonic() + 60
    while await ask(service, key) != (401, "api-key-unknown"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await ask(service, made(tmp_path).text) == (200, "")


async def test_a_question_that_says_nothing_is_refused(service: CredentialService) -> None:
    answer = await service._check(ext_authz_service_v3.CheckRequest(), Call())
    assert answer.denied_response.status.code == 503
