"""Large responses go out a few at a time.

A thousand proxies that connect at once would otherwise each have their megabytes under way at the same time: in the
memory of this process, and late for all of them alike, keepalive pings among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LARGE_BYTES = 64 << 10
AT_ONCE = 16
PATIENCE_SECONDS = 2.0
"""A proxy that does not read holds a place no longer than this."""


class Throttle:
    """Places for large writes; small ones pass."""

    def __init__(self, at_once: int = AT_ONCE, patience: float = PATIENCE_SECONDS) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._patience = patience

    async def write(self, send: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        """``await send(data)``, when it is its turn."""
        if len(data) < LARGE_BYTES:
            await send(data)
            return
        async with self._places:
            sending = asyncio.ensure_future(send(data))
            try:
                await asyncio.wait((sending,), timeout=self._patience)
            except asyncio.CancelledError:
                sending.cancel()
                raise
        try:
            await sending
        except asyncio.CancelledError:
            sending.cancel()
            raise
