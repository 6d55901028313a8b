"""When to fetch a list or an answer again. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from isthmus.revocation.held import Held


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to fetch."""

    longest: timedelta = timedelta(hours=1)
    """After a success: half of the time to the next update, and this at most: a CA may publish before it must."""
    shortest: timedelta = timedelta(seconds=1)
    """After a success, however near the next update is."""
    ended: timedelta = timedelta(seconds=10)
    """After a success that brought what has ended already."""
    first_retry: timedelta = timedelta(seconds=1)
    longest_retry: timedelta = timedelta(minutes=5)
    """After failures: doubled from the first to the longest."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is known of one source, and when it is due again.

    What is held stays, ended or not: an ended list refuses everybody in Envoy, which is what no list must do, too.
    """

    due: datetime
    held: Held | None = None
    error: str | None = "not fetched yet"
    """Why the latest fetch brought nothing; None: it brought ``held``, or the same once more."""
    failures: int = 0

    def succeeded(self, found: Held, now: datetime, pace: Pace) -> Schedule:
        """``found`` is not older than what is held; whoever was revoked once stays so."""
        revoked = found.revoked if self.held is None else found.revoked | self.held.revoked
        wait = pace.ended if found.ended(now) else max((found.next_update - now) / 2, pace.shortest)
        return Schedule(now + min(wait, pace.longest), replace(found, revoked=revoked), None)

    def failed(self, error: str, now: datetime, pace: Pace, jitter: float) -> Schedule:
        """``jitter``, from 0 to 1, spreads the retries over the latter half of the back-off."""
        back_off = min(pace.first_retry * 2 ** min(self.failures, 32), pace.longest_retry) * (0.5 + jitter / 2)
        return replace(self, due=now + back_off, error=error, failures=self.failures + 1)

    def wait(self, now: datetime, pace: Pace) -> timedelta:
        """How long until it is due. A clock that was set back must not stop the fetching: then it is due now."""
        left = self.due - now
        return timedelta() if left > max(pace.longest, pace.longest_retry) else max(left, timedelta())
