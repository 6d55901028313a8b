"""Buckets that are not as if they had never been there, and what is forgotten where there are too many of them.

Each limit has a share of its own, in order of use. Whatever a request brings, the work is bounded: what is over is
forgotten a few at a time, and where all is full, one bucket makes room: one of the limit that has most of them, and of
its eight that were used longest ago the one that has used the least. So a flood of names displaces itself, other
limits' buckets live on, and who wants a bucket forgotten has to use eight others as much.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice

Held = float | tuple[str, int]
"""When a bucket is full again, in seconds of a clock; of a quota its period, and how many of it are used."""
_TIDIED = 2
_TRIED = 8
_RECKONED = 1024


class Room:
    """``most``: buckets of all limits together. ``forgotten`` hears of each that is there no more."""

    def __init__(self, most: int, forgotten: Callable[[str, Held], None]) -> None:
        self._most = most
        self._forgotten = forgotten
        self._shares: dict[str, OrderedDict[str, Held]] = {}
        self._turns: deque[str] = deque()
        self._held = 0
        self._displaced = 0
        self._largest = ""

    def __len__(self) -> int:
        return self._held

    def get(self, limit: str, bucket: str) -> Held | None:
        share = self._shares.get(limit)
        return None if share is None else share.get(bucket)

    def put(self, limit: str, bucket: str, held: Held) -> None:
        """It is the one used last."""
        share = self._shares.get(limit)
        if share is None:
            share = self._shares[limit] = OrderedDict()
            self._turns.append(limit)
        if bucket in share:
            share.move_to_end(bucket)
        else:
            self._held += 1
        share[bucket] = held
        if self._held > self._most:
            self._make_room()

    def tidy(self, limit: str, is_over: Callable[[Held], bool]) -> None:
        """Forget what is over among the oldest of the limit, and of the one whose turn it is."""
        if limit in self._shares:
            self._forget_oldest(limit, is_over)
        if not self._turns:
            return
        other = self._turns.popleft()
        self._forget_oldest(other, is_over)
        if self._shares[other]:
            self._turns.append(other)
        else:
            del self._shares[other]

    def _forget_oldest(self, limit: str, is_over: Callable[[Held], bool]) -> None:
        share = self._shares[limit]
        for _ in range(_TIDIED):
            bucket = next(iter(share), None)
            if bucket is None or not is_over(share[bucket]):
                return
            self._forget(share, bucket)

    def _forget(self, share: OrderedDict[str, Held], bucket: str) -> None:
        self._held -= 1
        self._forgotten(bucket, share.pop(bucket))

    def _make_room(self) -> None:
        # To look at every limit is not for every request.
        if self._displaced % _RECKONED == 0 or not self._shares.get(self._largest):
            self._largest = max(self._shares, key=lambda limit: len(self._shares[limit]))
        self._displaced += 1
        share = self._shares[self._largest]
        oldest = list(islice(share, _TRIED))
        least = min(oldest, key=lambda bucket: _used(share[bucket]))
        for bucket in oldest:
            share.move_to_end(bucket)
        self._forget(share, least)


def _used(held: Held) -> float:
    """Of buckets of one limit: more for the one that has used more."""
    return held if isinstance(held, float) else held[1]
