"""The periods of quotas: calendar days and months in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from isthmus.limit.bucket import Verdict
from isthmus.model.limit import Period, Quota


@dataclass(frozen=True, slots=True)
class Span:
    """``name`` (2026-11-21, 2026-11) tells periods apart and sorts as they do."""

    name: str
    end: datetime


def span_of(period: Period, now: datetime) -> Span:
    """The period in which ``now`` is."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return Span(day.strftime("%Y-%m-%d"), day + timedelta(days=1))
    first = day.replace(day=1)
    # No month has more than 31 days, and none fewer than 28.
    return Span(first.strftime("%Y-%m"), (first + timedelta(days=31)).replace(day=1))


def current(now: datetime) -> frozenset[str]:
    """The names of the periods that go on."""
    return frozenset(span_of(period, now).name for period in Period)


def is_over(name: str, now: datetime) -> bool:
    """Whether the period of that name is."""
    return name < now.astimezone(UTC).isoformat()[: len(name)]


def verdict(used: int, quota: Quota, now: datetime, *, allowed: bool) -> Verdict:
    """What is told of a quota of which ``used`` are gone."""
    left = (span_of(quota.period, now).end - now).total_seconds()
    return Verdict(allowed, max(quota.requests - used, 0), max(left, 0.0))
