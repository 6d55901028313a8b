from __future__ import annotations

import asyncio

import pytest

from isthmus.ads.throttle import LARGE_BYTES, Throttle

LARGE, SMALL = b"x" * LARGE_BYTES, b"x"


class Wire:
    """Takes what it is given when it is told to."""

    def __init__(self) -> None:
        self.under_way = 0
        self.taken = asyncio.Event()

    async def send(self, data: bytes) -> None:
        self.under_way += 1
        await self.taken.wait()
        self.under_way -= 1


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_large_writes_go_a_few_at_a_time_and_small_ones_pass() -> None:
    throttle, wire = Throttle(at_once=2, patience=60), Wire()
    writing = [asyncio.create_task(throttle.write(wire.send, LARGE)) for _ in range(5)]
    await turn()
    assert wire.under_way == 2
    writing.append(asyncio.create_task(throttle.write(wire.send, SMALL)))
    await turn()
    assert wire.under_way == 3
    wire.taken.set()
    await asyncio.wait_for(asyncio.gather(*writing), 60)


async def test_who_does_not_read_holds_its_place_for_a_while_only() -> None:
    throttle, stuck, wire = Throttle(at_once=1, patience=0.01), Wire(), Wire()
    wire.taken.set()
    hanging = asyncio.create_task(throttle.write(stuck.send, LARGE))
    await asyncio.wait_for(throttle.write(wire.send, LARGE), 60)
    assert not hanging.done(), "it waits on, without a place"
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging


async def test_an_end_while_writing_ends_the_write() -> None:
    throttle, wire = Throttle(at_once=1, patience=60), Wire()
    writing = asyncio.create_task(throttle.write(wire.send, LARGE))
    await turn()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    other = Wire()
    other.taken.set()
    await asyncio.wait_for(throttle.write(other.send, LARGE), 60)
