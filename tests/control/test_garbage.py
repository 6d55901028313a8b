from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

from isthmus.control.garbage import collect_seldom, nothing_yet


async def test_what_is_there_after_the_start_is_left_alone() -> None:
    try:
        nothing_yet()
        assert not gc.isenabled()
        running = asyncio.create_task(collect_seldom())
        await asyncio.sleep(0)
        assert gc.isenabled()
        assert gc.get_freeze_count()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    finally:
        gc.unfreeze()
        gc.enable()
