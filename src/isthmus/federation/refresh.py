"""When to ask a bundle endpoint again, and which bundle is in force meanwhile. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from isthmus.errors import BundleUnavailable
from isthmus.model.spiffe_bundle import SpiffeBundle

DEFAULT_REFRESH = timedelta(minutes=5)
"""Where the bundle has no hint (SPIFFE Federation, section 4.1)."""
LEAST_REFRESH = timedelta(seconds=1)
LONGEST_REFRESH = timedelta(hours=1)
"""A hint of a day would leave a withdrawn authority in force for a day."""
FIRST_RETRY = timedelta(milliseconds=500)
OVERDUE = 3
"""Refreshes that may be missed until it is an alarm."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is known of one trust domain's bundle, and when its endpoint is to be asked.

    The last good bundle stays in force for as long as nothing better comes: an endpoint that is down must not take the
    callers of its trust domain down. :meth:`overdue` is the alarm.
    """

    due: datetime
    bundle: SpiffeBundle | None = None
    fetched_at: datetime | None = None
    """When the endpoint itself gave it, maybe in an earlier run; None: it was in the manifest."""
    error: str | None = "not fetched yet"
    """Why the latest fetch brought nothing; None: it brought ``bundle``."""
    failures: int = 0
    """Since the last success."""
    since: datetime | None = None
    """Of the first of these failures."""

    @property
    def pace(self) -> timedelta:
        """How often the endpoint is asked while it answers."""
        hint = self.bundle.refresh_hint if self.bundle is not None else None
        return min(max(hint or DEFAULT_REFRESH, LEAST_REFRESH), LONGEST_REFRESH)

    def succeeded(self, bundle: SpiffeBundle, now: datetime) -> Schedule:
        """Raises BundleUnavailable: older than what is in force (its ``spiffe_sequence`` went back)."""
        held = self.bundle.sequence if self.bundle is not None else None
        if held is not None and bundle.sequence is not None and bundle.sequence < held:
            raise BundleUnavailable(f"its spiffe_sequence {bundle.sequence} is older than {held}, which is in force")
        found = Schedule(due=now, bundle=bundle, fetched_at=now, error=None)
        return replace(found, due=now + found.pace)

    def failed(self, error: str, now: datetime, jitter: float) -> Schedule:
        """``jitter``, from 0 to 1, spreads the retries over the latter half of the back-off."""
        back_off = min(FIRST_RETRY * 2 ** min(self.failures, 32), self.pace) * (0.5 + jitter / 2)
        since = self.since if self.since is not None else now
        return replace(self, due=now + back_off, error=error, failures=self.failures + 1, since=since)

    def wait(self, now: datetime) -> timedelta:
        """How long until it is due. A clock that was set back must not stop the fetching: then it is due now."""
        remaining = self.due - now
        return timedelta() if remaining > LONGEST_REFRESH else max(remaining, timedelta())

    def overdue(self, now: datetime) -> bool:
        """Whether news of the trust domain have been missing for so long that somebody should look."""
        return self.error is not None and self.since is not None and now - self.since >= self.pace * OVERDUE
