"""The control plane's life under a supervisor: it ends when that does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


async def until_orphaned(supervisor: int | None, working: tuple[Coroutine[Any, Any, None], ...]) -> None:
    """Do the work until the supervisor (a process id) is gone; on our own (None), until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(_supervisor_gone(supervisor))
        parts = [tasks.create_task(part) for part in working]
        await ending
        for task in parts:
            task.cancel()


async def _supervisor_gone(supervisor: int | None) -> None:
    """Under a supervisor, its end is the end of our standard input; else wait until cancelled."""
    if supervisor is None:
        await asyncio.Event().wait()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    while await lines.read(4096):
        pass
