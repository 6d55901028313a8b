"""What the tests of the limit service share: definitions, and a clock that goes as it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.limit.count import Ask, Now
from isthmus.limit.definition import Definition
from isthmus.model.limit import Concurrency, Period, Quota, Rate

BEGINNING = datetime(2026, 1, 31, 23, 59, 50, tzinfo=UTC)


class Clock:
    """Begins ten seconds before the end of a month."""

    def __init__(self) -> None:
        self.passed = 0.0

    def wait(self, seconds: float) -> None:
        self.passed += seconds

    @property
    def now(self) -> Now:
        return Now(1000.0 + self.passed, BEGINNING + timedelta(seconds=self.passed))


def rate(requests: int = 2, seconds: float = 10, burst: int | None = None) -> Rate:
    return Rate(requests, timedelta(seconds=seconds), burst or requests)


def quota(requests: int = 2, period: Period = Period.DAY) -> Quota:
    return Quota(requests, period)


def slots(most: int = 1, seconds: float = 60) -> Concurrency:
    return Concurrency(most, timedelta(seconds=seconds))


def ask(bucket: str, amount: Rate | Quota | Concurrency, **more: Any) -> Ask:
    return Ask(bucket, Definition(f"shop/policy/{bucket}", amount, **more))
