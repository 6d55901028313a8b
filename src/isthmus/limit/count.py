"""What a request asks of its buckets, and what counts them. A request takes from all of them, or from none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from isthmus.limit.bucket import Verdict
from isthmus.limit.definition import Definition


@dataclass(frozen=True, slots=True)
class Ask:
    """``bucket``: whose, a digest that names nobody."""

    bucket: str
    definition: Definition


@dataclass(frozen=True, slots=True)
class Now:
    """``seconds`` of a clock that never goes back, and the time of day in UTC."""

    seconds: float
    utc: datetime


class Uncounted(Exception):
    """Nobody can count now; the message holds no secret."""


class Counter(Protocol):
    """A store of buckets and quotas."""

    async def take(self, asks: Sequence[Ask], now: Now) -> tuple[Verdict, ...]:
        """One verdict each, in order. Nothing is taken if any refuses that is no shadow. Raises Uncounted."""

    async def close(self) -> None: ...


class Nobody:
    """In the place of a counter that cannot be."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def take(self, asks: Sequence[Ask], now: Now) -> tuple[Verdict, ...]:
        """As :class:`Counter` says."""
        raise Uncounted(self._reason)

    async def close(self) -> None:
        """Nothing is open."""
