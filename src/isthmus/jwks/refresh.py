"""When to fetch an issuer's keys, and which keys are in force meanwhile. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from isthmus.model.key_set import KeySet


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to fetch."""

    refresh: timedelta = timedelta(minutes=20)
    """After a success. As Istio: an issuer publishes a new key at least that long before it signs with it."""
    first_retry: timedelta = timedelta(milliseconds=250)
    longest_retry: timedelta = timedelta(seconds=60)
    """After failures: doubled from the first to the longest."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is known of one source, and when it is due again.

    The last good keys stay in force for as long as nothing better comes, however old they are: an issuer that is down
    must not take its users down. That an issuer withdraws *all* keys looks the same and is treated the same.
    """

    due: datetime
    keys: KeySet | None = None
    fetched_at: datetime | None = None
    """When ``keys`` came from the issuer, maybe in an earlier run."""
    error: str | None = "not fetched yet"
    """Why the latest fetch brought nothing; None: it brought ``keys``."""
    failures: int = 0
    """Since the last success."""

    def succeeded(self, keys: KeySet, now: datetime, pace: Pace) -> Schedule:
        return Schedule(due=now + pace.refresh, keys=keys, fetched_at=now, error=None)

    def failed(self, error: str, now: datetime, pace: Pace, jitter: float) -> Schedule:
        """``jitter``, from 0 to 1, spreads the retries over the latter half of the back-off."""
        doublings = min(self.failures, 32)
        back_off = min(pace.first_retry * 2**doublings, pace.longest_retry) * (0.5 + jitter / 2)
        return replace(self, due=now + back_off, error=error, failures=self.failures + 1)

    def wait(self, now: datetime, pace: Pace) -> timedelta:
        """How long until it is due. A clock that was set back must not stop the fetching: then it is due now."""
        remaining = self.due - now
        return timedelta() if remaining > max(pace.refresh, pace.longest_retry) else max(remaining, timedelta())
