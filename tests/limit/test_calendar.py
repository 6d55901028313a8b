"""The periods of quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from isthmus.limit.bucket import Verdict
from isthmus.limit.calendar import current, span_of, verdict
from isthmus.model.limit import Period
from tests.limit.playbook import BEGINNING, quota


@pytest.mark.parametrize(
    ("period", "now", "name", "end"),
    [
        (Period.DAY, BEGINNING, "2026-01-31", datetime(2026, 2, 1, tzinfo=UTC)),
        (Period.MONTH, BEGINNING, "2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
        (Period.MONTH, datetime(2026, 2, 1, tzinfo=UTC), "2026-02", datetime(2026, 3, 1, tzinfo=UTC)),
        (Period.MONTH, datetime(2028, 2, 29, tzinfo=UTC), "2028-02", datetime(2028, 3, 1, tzinfo=UTC)),
        (Period.MONTH, datetime(2026, 12, 31, 23, tzinfo=UTC), "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_days_and_months(period: Period, now: datetime, name: str, end: datetime) -> None:
    found = span_of(period, now)
    assert (found.name, found.end) == (name, end)


def test_they_are_those_of_utc() -> None:
    east = timezone(timedelta(hours=9))
    assert span_of(Period.DAY, datetime(2026, 2, 1, 3, tzinfo=east)).name == "2026-01-31"
    assert current(BEGINNING) == {"2026-01-31", "2026-01"}


def test_what_is_told() -> None:
    assert verdict(1, quota(3), BEGINNING, allowed=True) == Verdict(True, 2, 10)
    assert verdict(5, quota(3), BEGINNING, allowed=False) == Verdict(False, 0, 10)
