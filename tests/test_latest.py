from __future__ import annotations

import asyncio
from contextlib import suppress

from isthmus.latest import Latest


def test_equal_values_are_dropped() -> None:
    latest = Latest([1])
    assert not latest.set([1])
    assert latest.version == 0
    assert latest.set([2])
    assert (latest.value, latest.version) == ([2], 1)


async def test_a_reader_that_has_not_seen_the_newest_does_not_wait() -> None:
    latest = Latest("a")
    assert await latest.after(-1) == (0, "a")
    latest.set("b")
    assert await latest.after(0) == (1, "b")


async def test_everybody_who_waits_is_woken() -> None:
    latest = Latest(0)
    waiting = [asyncio.create_task(latest.after(0)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    latest.set(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting), "an equal value is no news"
    latest.set(7)
    assert await asyncio.wait_for(asyncio.gather(*waiting), 60) == [(1, 7)] * 3


async def test_a_slow_reader_sees_every_last_value_not_every_value() -> None:
    latest = Latest(0)
    seen: list[int] = []

    async def read() -> None:
        async for value in latest:
            seen.append(value)
            await asyncio.sleep(0.01)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.001)
    for value in range(1, 5):
        latest.set(value)
    await asyncio.sleep(0.03)
    latest.set(9)
    await asyncio.sleep(0.03)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    assert seen == [0, 4, 9]


async def test_a_reader_that_gives_up_leaves_the_others() -> None:
    latest = Latest(0)
    patient = asyncio.create_task(latest.after(0))
    hasty = asyncio.create_task(latest.after(0))
    await asyncio.sleep(0)
    hasty.cancel()
    latest.set(1)
    assert await asyncio.wait_for(patient, 60) == (1, 1)
