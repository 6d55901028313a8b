"""Keeping one program alive: started again whenever it ends, later and later while it ends at once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from isthmus.errors import IsthmusError
from isthmus.proxy.child import Child

Say = Callable[[str, str], None]
"""Tell the user: (who, what)."""
Start = Callable[[int | None], Awaitable[Child]]
"""Start the program; the argument is the exit code of its last life. Raises OSError or IsthmusError."""
Stop = Callable[[Child], Awaitable[object]]
"""End a running child, gently."""


@dataclass(slots=True)
class BackOff:
    """Pauses in seconds: doubled each time, from the first again after a life of ``reset_after`` seconds."""

    first: float = 0.1
    last: float = 10.0
    reset_after: float = 10.0
    _pause: float = 0.0

    def pause(self, lived: float) -> float:
        self._pause = self.first if lived >= self.reset_after else min(max(2 * self._pause, self.first), self.last)
        return self._pause

    def reset(self) -> None:
        self._pause = 0.0

    def longest(self) -> float:
        """For what will not mend itself soon: a program that is not there."""
        self._pause = self.last
        return self._pause


class Kept:
    """A program that runs until :meth:`stop`."""

    def __init__(
        self, name: str, start: Start, stop: Stop, say: Say, *, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self.starts = 0
        self.last_code: int | None = None
        self._start = start
        self._stop = stop
        self._say = say
        self._changed = changed
        self._back_off = BackOff()
        self._stopping = asyncio.Event()
        self._child: Child | None = None
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def failed(self) -> bool:
        """Whether the program could not be started, or has ended, at least once."""
        return self._failed

    @property
    def child(self) -> Child | None:
        """The process, while it runs."""
        return self._child

    def begin(self, after: Awaitable[object] | None = None) -> None:
        """Run from now on, or once ``after`` is done."""
        self._task = asyncio.create_task(self._run(after), name=f"keep {self.name}")

    async def stop(self) -> None:
        """End the program gently and do not start it again."""
        self._stopping.set()
        # A start that is under way ends first: a process that nobody knows could not be ended.
        if self._child is not None:
            await self._stop(self._child)
        if self._task is not None:
            await self._task

    def kill(self) -> None:
        """End the program at once and do not start it again."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    async def _run(self, after: Awaitable[object] | None) -> None:
        if after is not None:
            await self._unless_stopping(after)
        failure = ""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                child = await self._start(self.last_code)
            except (OSError, IsthmusError) as failed:
                self._failed = True
                if str(failed) != failure:
                    failure = str(failed)
                    self._say(self.name, f"cannot be started: {failure}")
                missing = isinstance(failed, FileNotFoundError | NotADirectoryError | PermissionError)
                pause = self._back_off.longest() if missing else self._back_off.pause(time.monotonic() - began)
            else:
                failure = ""
                await self._live(child)
                pause = self._back_off.pause(time.monotonic() - began)
                if not self._stopping.is_set():
                    self._say(self.name, f"{ending(self.last_code)}; starts again in {pause:g} s")
            await self._unless_stopping(asyncio.sleep(pause))

    async def _live(self, child: Child) -> None:
        self._child = child
        self.starts += 1
        self._changed()
        if self._stopping.is_set():
            await self._stop(child)
        self.last_code = await child.wait()
        self._failed = True
        self._child = None
        self._changed()

    async def _unless_stopping(self, wanted: Awaitable[object]) -> None:
        waiting = asyncio.ensure_future(wanted)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)


def ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
