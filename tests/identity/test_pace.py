from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.identity.pace import Pace, TooFast, certificates_pace

from .making import NOW

SECOND = timedelta(seconds=1)


def taken(pace: Pace, node: str, tries: int, at: timedelta = timedelta()) -> int:
    """How many of so many come through."""
    came = 0
    for _ in range(tries):
        try:
            pace.take(node, NOW + at)
        except TooFast:
            break
        came += 1
    return came


def test_a_burst_and_then_so_many_a_second() -> None:
    pace = Pace("certificates", burst=5, a_second=2)
    assert taken(pace, "a", 10) == 5
    with pytest.raises(TooFast, match="the node a asks too fast: 5 certificates at once, 2 a second"):
        pace.take("a", NOW)
    assert taken(pace, "a", 10, SECOND) == 2
    assert taken(pace, "a", 10, 60 * SECOND) == 5


def test_one_node_costs_another_nothing() -> None:
    pace = Pace("certificates", burst=5, a_second=2)
    assert taken(pace, "a", 10) == 5
    assert taken(pace, "b", 10) == 5


def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    pace = Pace("certificates", burst=5, a_second=1)
    taken(pace, "a", 5, timedelta(days=1))
    assert taken(pace, "a", 10, 2 * SECOND) == 0
    assert taken(pace, "a", 10, 8 * SECOND) >= 1


def test_a_machine_with_a_thousand_identities_gets_them_anew_at_once_and_goes_on() -> None:
    pace = certificates_pace()
    for round_ in range(10):
        assert taken(pace, "a", 1000, 30 * round_ * SECOND) == 1000
    assert taken(pace, "a", 10_000, 300 * SECOND) < 2500
