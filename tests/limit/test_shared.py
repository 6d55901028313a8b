"""Counting in a real Redis: as in memory, for several at once, and an error soon where it cannot be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from isthmus.limit.count import Ask, Now, Uncounted
from isthmus.limit.memory import Memory
from isthmus.limit.shared import SharedCounter
from isthmus.model.limit import Period
from tests.limit.playbook import ask, quota, rate
from tests.real.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


def now() -> Now:
    return Now(time.monotonic(), datetime.now(UTC))


async def test_it_counts_as_memory_does(redis: RedisServer) -> None:
    shared, memory = SharedCounter(redis.url, time.monotonic), Memory()
    narrow, wide = ask("n", rate(3, 3600)), ask("w", rate(5, 3600, 2))
    day, month = ask("d", quota(6)), ask("m", quota(4, Period.MONTH))
    trial = ask("t", rate(1, 3600), shadow=True)
    plays: list[tuple[Ask, ...]] = [(narrow, day), (wide, month, trial), (narrow, wide), (day, trial), (wide,), (day,)]
    for play in plays * 3:
        at = now()
        ours, theirs = await memory.take(play, at), await shared.take(play, at)
        assert [(one.allowed, one.remaining) for one in ours] == [(one.allowed, one.remaining) for one in theirs]
        assert all(abs(one.reset - other.reset) < 5 for one, other in zip(ours, theirs, strict=True))
    await shared.close()


async def test_many_at_once_get_no_more_than_there_is(redis: RedisServer) -> None:
    several = [SharedCounter(redis.url, time.monotonic) for _ in range(3)]
    one = ask("many", rate(10, 3600))
    allowed = 0
    for _ in range(5):
        verdicts = await asyncio.gather(*(counter.take((one,), now()) for counter in several))
        allowed += sum(verdict[0].allowed for verdict in verdicts)
    assert allowed == 10
    for counter in several:
        await counter.close()


async def test_tokens_come_back_by_its_clock(redis: RedisServer) -> None:
    shared, one = SharedCounter(redis.url, time.monotonic), ask("back", rate(1, 0.3))
    assert (await shared.take((one,), now()))[0].allowed
    verdict = (await shared.take((one,), now()))[0]
    if not verdict.allowed:
        await asyncio.sleep(verdict.reset + 0.01)
        assert (await shared.take((one,), now()))[0].allowed
    await shared.close()


async def test_nothing_is_left_for_long(redis: RedisServer) -> None:
    shared = SharedCounter(redis.url, time.monotonic)
    await shared.take((ask("short", rate(1, 60)), ask("day", quota(1))), now())
    assert 0 < int(redis.run("pttl", "isthmus:limit:short")) <= 60_001
    (name,) = redis.run("keys", "isthmus:limit:day:*").splitlines()
    assert 3600 <= int(redis.run("ttl", name)) <= 90_001
    await shared.close()


async def test_one_that_is_not_there_is_an_error_soon() -> None:
    seconds = 100.0
    shared, one = SharedCounter("redis://:a-secret@127.0.0.1:1/0", lambda: seconds), ask("a", rate(1))
    for _ in range(3):
        with pytest.raises(Uncounted, match="did not answer: ") as told:
            await shared.take((one,), now())
        assert "a-secret" not in str(told.value)
    with pytest.raises(Uncounted, match="did not answer lately"):
        await shared.take((one,), now())
    seconds += 1
    with pytest.raises(Uncounted, match="did not answer: "):
        await shared.take((one,), now())
    await shared.close()
