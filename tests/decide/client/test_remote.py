from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import Position
from isthmus.consumer.wire import fingerprint
from isthmus.decide.client.remote import CHANNEL_OPTIONS, RemoteKeys
from isthmus.errors import CredentialsOutOfReach, CredentialsUnavailable

from .playing import PlayedKeys

KEY = ApiKey.make()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[PlayedKeys]:
    played = PlayedKeys(KEY)
    async with played.at(tmp_path / "s"):
        yield played


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[RemoteKeys]:
    asking = RemoteKeys(grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}", options=CHANNEL_OPTIONS))
    yield asking
    await asking.close()


async def test_a_key_and_what_becomes_of_it(plane: PlayedKeys, keys: RemoteKeys) -> None:
    here = await keys.position()
    assert await keys.find(KEY.id) == plane.record
    assert await keys.find("000000000000") is None
    assert (await keys.changes(here)).ids == frozenset()
    plane.revoke()
    changes = await keys.changes(here)
    assert changes.ids == {fingerprint(KEY.id)}
    assert changes.position == Position("store", 2)
    assert await keys.find(KEY.id) == plane.record


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_nobody_answers(plane: PlayedKeys, keys: RemoteKeys, code: grpc.StatusCode) -> None:
    plane.fails = code
    with pytest.raises(CredentialsOutOfReach):
        await keys.find(KEY.id)
    with pytest.raises(CredentialsOutOfReach):
        await keys.position()


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
)
async def test_no_is_an_answer(plane: PlayedKeys, keys: RemoteKeys, code: grpc.StatusCode) -> None:
    plane.fails = code
    for question in (keys.find(KEY.id), keys.position()):
        with pytest.raises(CredentialsUnavailable) as refused:
            await question
        assert not isinstance(refused.value, CredentialsOutOfReach)


async def test_what_cannot_be_read_is_no_key(plane: PlayedKeys, keys: RemoteKeys) -> None:
    plane.answer = b"{"
    for question in (keys.find(KEY.id), keys.position()):
        with pytest.raises(CredentialsUnavailable, match="cannot be read"):
            await question


async def test_nor_is_another_key(plane: PlayedKeys, keys: RemoteKeys) -> None:
    plane.key = ApiKey.make()
    with pytest.raises(CredentialsUnavailable, match="another key"):
        await keys.find(plane.key.id)


async def test_without_a_socket_nobody_answers(keys: RemoteKeys) -> None:
    with pytest.raises(CredentialsOutOfReach):
        await keys.find(KEY.id)
