"""Buckets and quotas of one machine, in memory; what quotas have used can be told, for it must outlive a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.limit import bucket, calendar
from isthmus.limit.bucket import Verdict
from isthmus.limit.count import Ask, Now
from isthmus.limit.definition import Definition
from isthmus.limit.room import Held, Room
from isthmus.model.limit import Quota, Rate

_MOST = 1_000_000
_MOST_CHOSEN = 250_000
"""Of limits whose clients choose what they are counted by: a flood of names has no share of the others' room."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a quota's bucket has used in a period. ``limit``, ``clients_choose``: as its Definition has them."""

    limit: str
    clients_choose: bool
    period: str
    count: int


class Memory:
    """``used``: what was kept of quotas, by bucket, the oldest first."""

    def __init__(
        self, used: Mapping[str, Used] | None = None, *, most: int = _MOST, most_chosen: int = _MOST_CHOSEN
    ) -> None:
        self._verified = Room(most, self._forget)
        self._chosen = Room(most_chosen, self._forget)
        self._changed: dict[str, Used | None] = {}
        for name, one in (used or {}).items():
            self._room(one).put(one.limit, name, (one.period, one.count))

    async def take(self, asks: Sequence[Ask], now: Now) -> tuple[Verdict, ...]:
        """As :class:`Counter` says; nobody is refused for want of room."""
        for ask in asks:
            self._room(ask.definition).tidy(ask.definition.id, lambda held: _is_over(held, now))
        tried = [self._try(ask, now) for ask in asks]
        refused = any(new is None and not ask.definition.shadow for ask, new in zip(asks, tried, strict=True))
        pairs = tuple(zip(asks, tried, strict=True))
        # Told before room is made for it, for which a bucket of this very request might go.
        verdicts = tuple(self._verdict(ask, new, now, taken=not refused) for ask, new in pairs)
        for ask, new in pairs:
            if new is not None and not refused:
                self._put(ask, new, now)
        return verdicts

    async def close(self) -> None:
        """Nothing is open."""

    def changed(self) -> dict[str, Used | None]:
        """What quotas have used that was not told before, by bucket; None: it is forgotten."""
        told, self._changed = self._changed, {}
        return told

    def _room(self, limit: Definition | Used) -> Room:
        return self._chosen if limit.clients_choose else self._verified

    def _held(self, ask: Ask) -> Held | None:
        return self._room(ask.definition).get(ask.definition.id, ask.bucket)

    def _try(self, ask: Ask, now: Now) -> float | int | None:
        match ask.definition.amount:
            case Rate() as rate:
                return bucket.take(self._full_at(ask), now.seconds, rate)
            case Quota() as quota:
                used = self._used_in(ask, quota, now) + 1
                return used if used <= quota.requests else None
            case other:
                raise AssertionError(f"{other} is leased, not counted")

    def _put(self, ask: Ask, new: float | int, now: Now) -> None:
        one = ask.definition
        if isinstance(one.amount, Quota):
            period = calendar.span_of(one.amount.period, now.utc).name
            self._changed[ask.bucket] = Used(one.id, one.clients_choose, period, int(new))
            self._room(one).put(one.id, ask.bucket, (period, int(new)))
        else:
            self._room(one).put(one.id, ask.bucket, float(new))

    def _verdict(self, ask: Ask, new: float | int | None, now: Now, *, taken: bool) -> Verdict:
        amount, after = ask.definition.amount, new if taken else None
        if isinstance(amount, Quota):
            used = int(after) if after is not None else self._used_in(ask, amount, now)
            return calendar.verdict(used, amount, now.utc, allowed=new is not None)
        assert isinstance(amount, Rate)
        full_at = after if after is not None else self._full_at(ask)
        return bucket.verdict(full_at - now.seconds, amount, allowed=new is not None)

    def _full_at(self, ask: Ask) -> float:
        held = self._held(ask)
        return held if isinstance(held, float) else 0.0

    def _used_in(self, ask: Ask, quota: Quota, now: Now) -> int:
        held = self._held(ask)
        if not isinstance(held, tuple):
            return 0
        period, used = held
        return used if period == calendar.span_of(quota.period, now.utc).name else 0

    def _forget(self, name: str, held: Held) -> None:
        if isinstance(held, tuple):
            self._changed[name] = None


def _is_over(held: Held, now: Now) -> bool:
    """Whether it is as if it had never been there."""
    return held <= now.seconds if isinstance(held, float) else calendar.is_over(held[0], now.utc)
