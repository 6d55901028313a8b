"""Counting in memory."""

from __future__ import annotations

import pytest

from isthmus.limit.count import Nobody, Uncounted
from isthmus.limit.memory import Memory
from isthmus.model.limit import Period
from tests.limit.playbook import Clock, ask, quota, rate


async def _allowed(memory: Memory, clock: Clock, *asks: object) -> list[bool]:
    return [one.allowed for one in await memory.take(asks, clock.now)]  # type: ignore[arg-type]


async def test_a_rate() -> None:
    memory, clock, one = Memory(), Clock(), ask("a", rate(2, 10))
    assert [await _allowed(memory, clock, one) for _ in range(3)] == [[True], [True], [False]]
    assert await _allowed(memory, clock, ask("b", rate(2, 10))) == [True], "another bucket"
    clock.wait(5)
    assert [await _allowed(memory, clock, one) for _ in range(2)] == [[True], [False]]


async def test_a_quota_begins_anew_with_its_period() -> None:
    memory, clock = Memory(), Clock()
    daily, monthly = ask("d", quota(1)), ask("m", quota(2, Period.MONTH))
    assert await _allowed(memory, clock, daily, monthly) == [True, True]
    assert await _allowed(memory, clock, daily) == [False]
    clock.wait(10)
    assert await _allowed(memory, clock, daily, monthly) == [True, True]
    clock.wait(86400)
    assert await _allowed(memory, clock, daily, monthly) == [True, True]
    clock.wait(86400)
    assert await _allowed(memory, clock, daily, monthly) == [True, False]


async def test_what_one_refuses_the_others_do_not_count() -> None:
    memory, clock = Memory(), Clock()
    narrow, wide, day = ask("n", rate(1)), ask("w", rate(3)), ask("d", quota(3))
    trial = ask("t", rate(1), shadow=True)
    assert await _allowed(memory, clock, wide, narrow, day, trial) == [True] * 4
    for _ in range(5):
        assert await _allowed(memory, clock, wide, narrow, day, trial) == [True, False, True, False]
    assert await _allowed(memory, clock, wide, day, trial) == [True, True, False], "on trial: refuses nobody"
    assert await _allowed(memory, clock, wide, day) == [True, True]
    assert await _allowed(memory, clock, wide) == [False]
    assert await _allowed(memory, clock, day) == [False]


async def test_what_is_left_is_told() -> None:
    memory, clock = Memory(), Clock()
    told = [(await memory.take((ask("a", quota(2)),), clock.now))[0].remaining for _ in range(3)]
    assert told == [1, 0, 0]
    assert [(await memory.take((ask("b", rate(2)),), clock.now))[0].remaining for _ in range(3)] == [1, 0, 0]


async def test_quotas_go_on_from_what_was_kept() -> None:
    clock, one = Clock(), ask("d", quota(3))
    memory = Memory()
    assert await _allowed(memory, clock, one) == [True]
    kept = memory.changed()
    assert kept == {"d": ("2026-01-31", 1)}
    assert memory.changed() == {}
    memory = Memory({**kept, "old": ("2025-01-31", 9)})
    assert [await _allowed(memory, clock, one) for _ in range(3)] == [[True], [True], [False]]
    assert await _allowed(memory, clock, ask("old", quota(1))) == [True]


async def test_full_buckets_are_forgotten() -> None:
    memory, clock = Memory(), Clock()
    for index in range(5000):
        clock.wait(1)
        await memory.take((ask(f"one-{index}", rate(1, 1)),), clock.now)
    assert len(memory._full_at) <= 2048


async def test_where_nobody_can_count() -> None:
    counter = Nobody("no reason")
    with pytest.raises(Uncounted, match="no reason"):
        await counter.take((), Clock().now)
    await counter.close()
    await Memory().close()
