from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.errors import BundleUnavailable
from isthmus.federation.refresh import Schedule

from .bundles import bundle

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("hint", "pace"),
    [(None, 5 * MINUTE), (MINUTE, MINUTE), (timedelta(days=9), 60 * MINUTE), (timedelta(0), 5 * MINUTE)],
)
def test_it_is_due_when_its_hint_says(hint: timedelta | None, pace: timedelta) -> None:
    held = Schedule(NOW).succeeded(bundle(refresh_hint=hint), NOW)
    assert held.wait(NOW) == pace
    assert held.wait(NOW + 2 * pace) == timedelta()
    assert held.wait(NOW - timedelta(days=1)) == timedelta(), "the clock was set back"


def test_the_last_good_bundle_stays_and_is_overdue_after_three_refreshes() -> None:
    held = Schedule(NOW).succeeded(bundle(refresh_hint=MINUTE), NOW)
    failed = held.failed("gone", NOW + MINUTE, 1.0)
    assert failed.bundle == held.bundle
    assert failed.wait(NOW + MINUTE) == timedelta(milliseconds=500)
    again = failed.failed("gone", NOW + 2 * MINUTE, 0.0)
    assert again.wait(NOW + 2 * MINUTE) == timedelta(milliseconds=500)
    assert not again.overdue(NOW + 3 * MINUTE)
    assert again.overdue(NOW + 4 * MINUTE)
    assert not again.succeeded(bundle(), NOW + 4 * MINUTE).overdue(NOW + 9 * MINUTE)


def test_a_sequence_does_not_go_back() -> None:
    held = Schedule(NOW).succeeded(bundle(sequence=7), NOW)
    with pytest.raises(BundleUnavailable, match="spiffe_sequence 6 is older than 7"):
        held.succeeded(bundle(sequence=6), NOW)
    assert held.succeeded(bundle(sequence=7), NOW)
    assert held.succeeded(bundle(), NOW)
