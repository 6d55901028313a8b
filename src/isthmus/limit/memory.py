"""Buckets and quotas of one machine, in memory; what quotas have used can be told, for it must outlive a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.limit import bucket, calendar
from isthmus.limit.bucket import Verdict
from isthmus.limit.count import Ask, Now, Uncounted
from isthmus.model.limit import Quota, Rate

_MOST = 1_000_000
"""Buckets that are not full; more would be somebody who makes up names for them."""
_SWEEP = 1024


class Memory:
    """``used``: what was kept of quotas, by bucket: the period and how many."""

    def __init__(self, used: Mapping[str, tuple[str, int]] | None = None) -> None:
        self._full_at: dict[str, float] = {}
        self._used: dict[str, tuple[str, int]] = dict(used or {})
        self._changed: set[str] = set()
        self._sweep_at = _SWEEP

    async def take(self, asks: Sequence[Ask], now: Now) -> tuple[Verdict, ...]:
        """As :class:`Counter` says."""
        self._sweep(now)
        tried = [self._try(ask, now) for ask in asks]
        refused = any(new is None and not ask.definition.shadow for ask, new in zip(asks, tried, strict=True))
        if not refused:
            for ask, new in zip(asks, tried, strict=True):
                self._put(ask, new, now)
        pairs = zip(asks, tried, strict=True)
        return tuple(self._verdict(ask, now, allowed=new is not None) for ask, new in pairs)

    async def close(self) -> None:
        """Nothing is open."""

    def changed(self) -> dict[str, tuple[str, int]]:
        """What quotas have used that was not told before, by bucket."""
        told = {name: self._used[name] for name in self._changed if name in self._used}
        self._changed.clear()
        return told

    def _try(self, ask: Ask, now: Now) -> float | int | None:
        match ask.definition.amount:
            case Rate() as rate:
                return bucket.take(self._full_at.get(ask.bucket, 0.0), now.seconds, rate)
            case Quota() as quota:
                used = self._used_in(ask.bucket, quota, now) + 1
                return used if used <= quota.requests else None
            case other:
                raise AssertionError(f"{other} is leased, not counted")

    def _put(self, ask: Ask, new: float | int | None, now: Now) -> None:
        amount = ask.definition.amount
        if new is None:
            return
        if isinstance(amount, Quota):
            self._used[ask.bucket] = (calendar.span_of(amount.period, now.utc).name, int(new))
            self._changed.add(ask.bucket)
        else:
            self._full_at[ask.bucket] = new

    def _verdict(self, ask: Ask, now: Now, *, allowed: bool) -> Verdict:
        amount = ask.definition.amount
        if isinstance(amount, Quota):
            used = self._used_in(ask.bucket, amount, now)
            return calendar.verdict(used, amount, now.utc, allowed=allowed)
        assert isinstance(amount, Rate)
        return bucket.verdict(self._full_at.get(ask.bucket, 0.0) - now.seconds, amount, allowed=allowed)

    def _used_in(self, name: str, quota: Quota, now: Now) -> int:
        period, used = self._used.get(name, ("", 0))
        return used if period == calendar.span_of(quota.period, now.utc).name else 0

    def _sweep(self, now: Now) -> None:
        """A bucket that is full is as one that was never there. Raises Uncounted."""
        if len(self._full_at) + len(self._used) < self._sweep_at:
            return
        self._full_at = {name: at for name, at in self._full_at.items() if at > now.seconds}
        periods = calendar.current(now.utc)
        self._used = {name: used for name, used in self._used.items() if used[0] in periods}
        held = len(self._full_at) + len(self._used)
        self._sweep_at = max(_SWEEP, min(2 * held, _MOST))
        if held >= _MOST:
            raise Uncounted("too many buckets")
