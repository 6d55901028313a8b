from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.wire import decode_record
from isthmus.errors import NotEnrolled
from isthmus.model.key_lookup import FIND, method_path
from isthmus.proxy.key_relay import KeyRelay
from tests.decide.client.playing import PlayedKeys

KEY = ApiKey.make()


class Relayed:
    """A relay, who asks it, and what it asks in turn."""

    def __init__(self, folder: Path) -> None:
        self.plane = PlayedKeys(KEY)
        self.above, self.socket = folder / "above", folder / "keys"
        self.made: list[Any] = []
        self.ended = False

    def connect(self) -> Any:
        if self.ended:
            raise NotEnrolled("the certificate ended")
        self.made.append(grpc.aio.insecure_channel(f"unix:{self.above}"))
        return self.made[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Any]:
        relaying = asyncio.create_task(KeyRelay(self.socket, self.connect).run())
        async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
            yield channel
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)


async def ask(channel: Any, path: str = method_path(FIND)) -> bytes:
    answer: bytes = await channel.unary_unary(path)(KEY.id.encode(), timeout=20, wait_for_ready=True)
    return answer


async def refused(channel: Any, path: str = method_path(FIND)) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask(channel, path)
    code: grpc.StatusCode = failed.value.code()
    return code


@pytest.fixture
def relayed(tmp_path: Path) -> Relayed:
    return Relayed(tmp_path)


async def test_questions_go_by_one_channel(relayed: Relayed) -> None:
    async with relayed.plane.at(relayed.above), relayed.running() as channel:
        for _ in range(3):
            assert decode_record(await ask(channel)) == relayed.plane.record
        assert len(relayed.made) == 1
        assert relayed.plane.asked == [KEY.id.encode()] * 3
        assert relayed.socket.stat().st_mode & 0o777 == 0o600


async def test_no_other_method_passes(relayed: Relayed) -> None:
    async with relayed.plane.at(relayed.above), relayed.running() as channel:
        for path in ("/isthmus.v1.ApiKeys/List", "/isthmus.v1.Nodes/Follow", "/istio.v1.auth.X/CreateCertificate"):
            assert await refused(channel, path) is grpc.StatusCode.UNIMPLEMENTED
    assert not relayed.made


async def test_what_is_said_above_is_said_below(relayed: Relayed) -> None:
    async with relayed.plane.at(relayed.above), relayed.running() as channel:
        relayed.plane.fails = grpc.StatusCode.PERMISSION_DENIED
        assert await refused(channel) is grpc.StatusCode.PERMISSION_DENIED


async def test_after_a_failure_the_certificate_is_taken_anew(relayed: Relayed) -> None:
    async with relayed.running() as channel:
        assert await refused(channel) is grpc.StatusCode.UNAVAILABLE
        deadline = time.monotonic() + 60
        while len(relayed.made) < 2:
            assert await refused(channel) is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        async with relayed.plane.at(relayed.above):
            while True:
                try:
                    await ask(channel)
                    break
                except grpc.aio.AioRpcError:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)


async def test_without_a_certificate(relayed: Relayed) -> None:
    relayed.ended = True
    async with relayed.running() as channel:
        assert await refused(channel) is grpc.StatusCode.UNAUTHENTICATED
