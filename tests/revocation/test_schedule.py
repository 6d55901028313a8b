from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.revocation.held import Held
from isthmus.revocation.schedule import Pace, Schedule

from .making import HOUR, NOW

PACE = Pace(first_retry=timedelta(seconds=1), longest_retry=timedelta(seconds=8))
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("left", "due"), [(24 * HOUR, HOUR), (HOUR, HOUR / 2), (MINUTE / 60, MINUTE / 60), (-HOUR, MINUTE / 6)]
)
def test_half_of_what_is_left_and_an_hour_at_most(left: timedelta, due: timedelta) -> None:
    found = Held(b"", NOW - HOUR, NOW + left)
    assert Schedule(NOW).succeeded(found, NOW, PACE).due == NOW + due


def test_failures_back_off_and_keep_what_is_held() -> None:
    held = Held(b"", NOW, NOW + HOUR)
    schedule = Schedule(NOW, held)
    waits = []
    for _ in range(6):
        schedule = schedule.failed("down", NOW, PACE, 1.0)
        waits.append((schedule.due - NOW).total_seconds())
    assert (waits, schedule.held, schedule.error) == ([1, 2, 4, 8, 8, 8], held, "down")
    assert schedule.failed("down", NOW, PACE, 0.0).due == NOW + timedelta(seconds=4)


def test_who_was_revoked_stays_revoked() -> None:
    schedule = Schedule(NOW, Held(b"1", NOW, NOW + HOUR, revoked=frozenset({1})))
    found = Held(b"2", NOW, NOW + HOUR, revoked=frozenset({2}))
    after = schedule.succeeded(found, NOW, PACE)
    assert after.held is not None
    assert after.held.revoked == {1, 2}


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    assert Schedule(NOW + 24 * HOUR).wait(NOW, PACE) == timedelta()
    assert Schedule(NOW + MINUTE).wait(NOW, PACE) == MINUTE
