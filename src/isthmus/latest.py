"""``Latest[T]``: the newest value of something, equal values dropped, waiters woken. How stages meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds one value. Readers see every *last* value, not every value: a slow reader skips what is out of date."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        return self._value

    @property
    def version(self) -> int:
        """Counts the changes; a reader that remembers it can tell whether it has seen the newest value."""
        return self._version

    def set(self, value: T) -> bool:
        """Publish ``value``; say whether it differs from the last."""
        if value == self._value:
            return False
        self._value = value
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def after(self, version: int) -> tuple[int, T]:
        """Wait for a version newer than ``version``."""
        while self._version <= version:
            await self._changed.wait()
        return self._version, self._value

    async def __aiter__(self) -> AsyncIterator[T]:
        version = -1
        while True:
            version, value = await self.after(version)
            yield value
