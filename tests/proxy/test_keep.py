from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.proxy.child import Child, start_child
from isthmus.proxy.keep import BackOff, Kept, ending

from .making import until


class Said(list[str]):
    def __call__(self, who: str, what: str) -> None:
        self.append(f"{who}: {what}")


async def gently(child: Child) -> int:
    return await child.end(timedelta(seconds=2))


def kept(said: Said, *argv: str) -> Kept:
    async def start(_last_code: int | None) -> Child:
        return await start_child(argv)

    return Kept("one", start, gently, said)


def test_pauses_grow_and_begin_anew_after_a_long_life() -> None:
    back_off = BackOff(first=0.1, last=1.0, reset_after=10)
    assert [back_off.pause(0) for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert back_off.pause(10) == 0.1
    assert back_off.longest() == 1.0
    back_off.reset()
    assert back_off.pause(0) == 0.1


async def test_what_ends_is_started_again() -> None:
    said = Said()
    one = kept(said, "sleep", "60")
    one.begin()
    first = await until(lambda: one.child)
    os.kill(first.pid, signal.SIGKILL)
    second = await until(lambda: one.child is not None and one.child.pid != first.pid and one.child)
    assert said == ["one: was ended by SIGKILL; starts again in 0.1 s"]
    await one.stop()
    assert second.returncode == -signal.SIGTERM
    assert one.starts == 2


async def test_a_program_that_is_not_there_is_told_once() -> None:
    said = Said()
    one = kept(said, "no-such-program")
    one.begin()
    await until(lambda: said)
    await asyncio.sleep(0.3)
    assert len(said) == 1
    assert "no-such-program" in said[0]
    await one.stop()
    assert one.starts == 0


async def test_stopping_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    children: list[Child] = []

    async def start(_last_code: int | None) -> Child:
        begun.set()
        await go_on.wait()
        children.append(await start_child(("sleep", "60")))
        return children[0]

    one = Kept("one", start, gently, Said())
    one.begin()
    await begun.wait()
    stopping = asyncio.create_task(one.stop())
    await asyncio.sleep(0.05)
    go_on.set()
    await stopping
    assert children[0].returncode == -signal.SIGTERM


async def test_it_waits_for_what_must_be_first_but_not_when_it_is_stopped() -> None:
    one = kept(Said(), "sleep", "60")
    one.begin(after=asyncio.sleep(60))
    await asyncio.sleep(0.05)
    assert one.child is None
    await asyncio.wait_for(one.stop(), 60)
    assert one.starts == 0


async def test_killing_is_at_once() -> None:
    one = kept(Said(), "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    one.begin()
    await until(lambda: one.child)
    one.kill()
    await asyncio.wait_for(one.stop(), 60)
    assert one.last_code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "words"), [(3, "ended with exit code 3"), (-9, "was ended by SIGKILL"), (-200, "was ended by signal 200")]
)
def test_endings_in_words(code: int, words: str) -> None:
    assert ending(code) == words
