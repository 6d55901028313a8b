"""Token buckets: never more than allowed in any span of time, and never less than that without a reason."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.limit.bucket import Verdict, interval, take, verdict
from tests.limit.playbook import rate

_WAITS = st.lists(st.floats(0, 30), min_size=1, max_size=60)


def _passed(waits: list[float], requests: int, seconds: float, burst: int) -> list[float]:
    """When requests pass that come after one another's ``waits``."""
    wanted, full_at, now = rate(requests, seconds, burst), 0.0, 1000.0
    times = []
    for wait in waits:
        now += wait
        moved = take(full_at, now, wanted)
        if moved is not None:
            full_at = moved
            times.append(now)
    return times


@given(_WAITS, st.integers(1, 20), st.floats(0.05, 60), st.integers(1, 20))
def test_never_more_than_allowed_in_any_span(waits: list[float], requests: int, seconds: float, burst: int) -> None:
    times = _passed(waits, requests, seconds, burst)
    for first in range(len(times)):
        for last in range(first, len(times)):
            span = times[last] - times[first]
            assert last - first + 1 <= burst + span * requests / seconds + 1e-3


@given(st.integers(1, 20), st.floats(0.05, 60), st.integers(1, 20))
def test_a_full_bucket_is_as_large_as_it_is_said(requests: int, seconds: float, burst: int) -> None:
    assert len(_passed([0.0] * (burst + 3), requests, seconds, burst)) == burst


@given(_WAITS, st.integers(1, 20), st.floats(0.5, 60), st.integers(1, 20))
def test_after_what_a_refusal_says_one_passes(waits: list[float], requests: int, seconds: float, burst: int) -> None:
    wanted, full_at, now = rate(requests, seconds, burst), 0.0, 1000.0
    for wait in waits:
        now += wait
        moved = take(full_at, now, wanted)
        if moved is None:
            told = verdict(full_at - now, wanted, allowed=False)
            assert told.remaining == 0
            assert take(full_at, now + told.reset + 1e-6, wanted) is not None
        full_at = moved or full_at


def test_what_is_told() -> None:
    wanted = rate(2, 10, 3)
    assert interval(wanted) == 5
    full_at = take(0.0, 1000.0, wanted)
    assert full_at == 1005
    assert verdict(5, wanted, allowed=True) == Verdict(True, 2, 5)
    assert verdict(15, wanted, allowed=True) == Verdict(True, 0, 15)
    assert verdict(14, wanted, allowed=False) == Verdict(False, 0, 4)
    assert verdict(-3, wanted, allowed=True) == Verdict(True, 3, 0)
