from __future__ import annotations

from datetime import UTC, datetime, timedelta

from isthmus.jwks.refresh import Pace, Schedule
from isthmus.model.key_set import read_key_set

from .keys import jwk, jwks

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PACE = Pace(first_retry=timedelta(seconds=1))
OLD = read_key_set(jwks(jwk("P-256")))
NEW = read_key_set(jwks(jwk("P-384")))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_at_first_it_is_due_and_says_why_there_are_no_keys() -> None:
    schedule = Schedule(due=START)
    assert schedule.wait(START, PACE) == seconds(0)
    assert (schedule.keys, schedule.error) == (None, "not fetched yet")


def test_a_success_lasts_twenty_minutes_and_the_next_brings_the_rotated_keys() -> None:
    schedule = Schedule(due=START).succeeded(OLD, START, PACE)
    assert (schedule.keys, schedule.fetched_at, schedule.error) == (OLD, START, None)
    assert schedule.wait(START, PACE) == timedelta(minutes=20)
    later = START + timedelta(minutes=20)
    assert schedule.wait(later - seconds(1), PACE) == seconds(1)
    assert schedule.wait(later, PACE) == seconds(0)
    assert schedule.wait(later + seconds(99), PACE) == seconds(0), "late is due, not in the past"
    assert schedule.succeeded(NEW, later, PACE).keys == NEW


def test_failures_back_off_from_one_second_to_a_minute_and_a_success_ends_them() -> None:
    schedule, now, waits = Schedule(due=START), START, []
    for _ in range(9):
        schedule = schedule.failed("gone", now, PACE, jitter=1.0)
        waits.append(schedule.wait(now, PACE).total_seconds())
        now = schedule.due
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert schedule.failures == 9
    mended = schedule.succeeded(NEW, now, PACE)
    assert (mended.failures, mended.error) == (0, None)
    assert mended.failed("gone", now, PACE, jitter=1.0).wait(now, PACE) == seconds(1)


def test_jitter_spreads_retries_over_the_latter_half() -> None:
    schedule = Schedule(due=START)
    assert schedule.failed("gone", START, PACE, jitter=0.0).wait(START, PACE) == seconds(0.5)
    assert schedule.failed("gone", START, PACE, jitter=0.5).wait(START, PACE) == seconds(0.75)


def test_an_issuer_gone_for_years_neither_loses_its_keys_nor_overflows() -> None:
    schedule = Schedule(due=START).succeeded(OLD, START, PACE)
    for _ in range(5000):
        schedule = schedule.failed("gone", schedule.due, PACE, jitter=1.0)
    assert (schedule.keys, schedule.fetched_at, schedule.error) == (OLD, START, "gone")


def test_a_clock_set_back_by_years_does_not_stop_the_fetching() -> None:
    schedule = Schedule(due=START).succeeded(OLD, START, PACE)
    before = START - timedelta(days=3650)
    assert schedule.wait(before, PACE) == seconds(0)
    assert schedule.succeeded(NEW, before, PACE).wait(before, PACE) == timedelta(minutes=20)
