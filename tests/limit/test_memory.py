"""Counting in memory."""

from __future__ import annotations

import pytest

from isthmus.limit.count import Ask, Nobody, Uncounted
from isthmus.limit.definition import Definition
from isthmus.limit.memory import Memory, Used
from isthmus.model.limit import Period
from tests.limit.playbook import Clock, ask, quota, rate


async def _allowed(memory: Memory, clock: Clock, *asks: object) -> list[bool]:
    return [one.allowed for one in await memory.take(asks, clock.now)]  # type: ignore[arg-type]


def known(changed: dict[str, Used | None]) -> dict[str, Used]:
    return {name: one for name, one in changed.items() if one is not None}


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
    assert kept == {"d": Used("shop/policy/d", False, "2026-01-31", 1)}
    assert memory.changed() == {}
    memory = Memory({"old": Used("shop/policy/old", False, "2025-01-31", 9), **known(kept)})
    assert [await _allowed(memory, clock, one) for _ in range(3)] == [[True], [True], [False]]
    assert await _allowed(memory, clock, ask("old", quota(1))) == [True]


async def test_full_buckets_are_forgotten() -> None:
    memory, clock = Memory(), Clock()
    for index in range(5000):
        clock.wait(1)
        await memory.take((ask(f"one-{index}", rate(1, 1)),), clock.now)
    assert len(memory._verified) <= 3


async def test_quotas_of_the_past_are_forgotten_by_the_store_too() -> None:
    memory, clock = Memory(), Clock()
    await memory.take((ask("a", quota(1)),), clock.now)
    clock.wait(86400)
    await memory.take((ask("b", quota(1)),), clock.now)
    assert memory.changed() == {"a": None, "b": Used("shop/policy/b", False, "2026-02-01", 1)}


async def test_a_flood_of_names_displaces_itself() -> None:
    """Rooms of 64 and 1,000 buckets; of one limit each client can have as many buckets as it writes names."""
    memory, clock = Memory(most=64, most_chosen=1000), Clock()
    named = [Definition("named", amount, clients_choose=True) for amount in (rate(2, 3600), quota(2))]
    others = [Definition("address", rate(2, 3600), clients_choose=True), Definition("consumer", quota(2))]
    for one in others:
        assert await _allowed(memory, clock, Ask(f"bob at {one.id}", one)) == [True]
    for flood in named:
        for index in range(5000):
            assert await _allowed(memory, clock, Ask(f"{flood.amount} {index}", flood)) == [True], "nobody is refused"
    assert len(memory._chosen) == 1000
    for one in others:
        bob = Ask(f"bob at {one.id}", one)
        assert [await _allowed(memory, clock, bob) for _ in range(2)] == [[True], [False]], "counted on"


async def test_who_used_most_is_not_forgotten_for_those_who_used_little() -> None:
    memory, clock = Memory(most_chosen=1000), Clock()
    daily = Definition("daily", quota(20), clients_choose=True)
    alice = Ask("alice", daily)
    assert [await _allowed(memory, clock, alice) for _ in range(21)] == [[True]] * 20 + [[False]]
    for index in range(20_000):
        await memory.take((Ask(f"made up {index}", daily),), clock.now)
    assert await _allowed(memory, clock, alice) == [False]
    gone = [name for name, one in memory.changed().items() if one is None]
    assert len(gone) > 15_000, "the store forgets them as well"


async def test_where_nobody_can_count() -> None:
    counter = Nobody("no reason")
    with pytest.raises(Uncounted, match="no reason"):
        await counter.take((), Clock().now)
    await counter.close()
    await Memory().close()
