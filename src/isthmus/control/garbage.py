"""When Python looks for garbage: seldom, and never between an edit and its proxies.

A look at every object takes a quarter of a second in a mesh of a thousand services, and nearly all of them are there to
stay. What is let go of is freed at once anyway; a look is for what refers to itself in a circle.
"""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta

WHOLE_LOOK = timedelta(hours=1)


def nothing_yet() -> None:
    """At a start nothing is garbage: to look through what has been made, again and again, doubles the time."""
    gc.disable()


async def collect_seldom() -> None:
    """Leave alone what there is now, and look through it once in a long while."""
    while True:
        gc.collect()
        gc.freeze()
        gc.enable()
        await asyncio.sleep(WHOLE_LOOK.total_seconds())
        gc.unfreeze()
