"""Watches over a state directory that is in use: what somebody removes is made again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from isthmus.errors import StateHeld, StateUnusable
from isthmus.state import Held

_GUARD_SECONDS = 1.0


async def guard(held: Held, say: Callable[[str], None]) -> None:
    """Restore ``held`` whenever somebody removed it, until cancelled; each fault is told once."""
    told = ""
    while True:
        await asyncio.sleep(_GUARD_SECONDS)
        try:
            if held.restore():
                say(f"{held.state.path} was removed while it is in use: it is there again, with what is still known")
            told = ""
        except (StateHeld, StateUnusable) as fault:
            if str(fault) != told:
                told = str(fault)
                say(told)
