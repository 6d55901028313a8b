"""Leases: who is under way. One ends when it is given back, or when it is so old that its proxy must be gone.

How old that is each limit says: in one bucket a lease may be over while it goes on in another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from isthmus.limit.bucket import Verdict
from isthmus.limit.count import Ask
from isthmus.model.limit import Concurrency

_TIDIED = 2


class Leases:
    """``name``: gives each lease a name that nobody can guess."""

    def __init__(self, name: Callable[[], str]) -> None:
        self._name = name
        self._held: dict[str, dict[str, float]] = {}
        """By bucket: when each lease ends at the latest."""
        self._buckets: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        """By lease, in the order in which they are looked at."""

    def acquire(self, asks: Sequence[Ask], now: float) -> tuple[str | None, tuple[Verdict, ...]]:
        """A lease in all buckets, or None: one that is no shadow is full. ``now``: seconds of a clock."""
        self._tidy(now)
        verdicts = tuple(self._verdict(ask, now) for ask in asks)
        if any(not one.allowed and not ask.definition.shadow for ask, one in zip(asks, verdicts, strict=True)):
            return None, verdicts
        lease = self._name()
        for ask in asks:
            self._held.setdefault(ask.bucket, {})[lease] = now + _amount(ask).longest.total_seconds()
        self._buckets[lease] = tuple(ask.bucket for ask in asks)
        return lease, verdicts

    def release(self, lease: str) -> None:
        """Give it back; one that is not there any more may have ended by itself."""
        for bucket in self._buckets.pop(lease, ()):
            held = self._held.get(bucket, {})
            held.pop(lease, None)
            if not held:
                self._held.pop(bucket, None)

    def _tidy(self, now: float) -> None:
        """Forget what is over, a few leases in turn: nobody may ever ask for their buckets again."""
        for lease in list(islice(self._buckets, _TIDIED)):
            self._buckets.move_to_end(lease)
            if all(self._held.get(bucket, {}).get(lease, now) <= now for bucket in self._buckets[lease]):
                self.release(lease)

    def _verdict(self, ask: Ask, now: float) -> Verdict:
        held = self._held.get(ask.bucket, {})
        for lease in [lease for lease, end in held.items() if end <= now]:
            del held[lease]
        if not held:
            self._held.pop(ask.bucket, None)
        amount, under_way = _amount(ask), len(held)
        return Verdict(under_way < amount.most, max(amount.most - under_way - 1, 0), 1.0)


def _amount(ask: Ask) -> Concurrency:
    assert isinstance(ask.definition.amount, Concurrency)
    return ask.definition.amount
