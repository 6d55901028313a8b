"""Answers that are kept for a while: so many, the longest unused go first."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """By digest; each until its time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[bytes, tuple[T, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: datetime) -> T | None:
        """None: never kept, or too long ago."""
        found = self._entries.get(key)
        if found is None:
            return None
        value, until = found
        if until <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: bytes, value: T, until: datetime) -> None:
        self._entries[key] = value, until
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()
