from __future__ import annotations

import pytest

from isthmus.revocation.held import Held

from .making import HOUR, NOW


def held(number: int | None = None, since: int = 0) -> Held:
    return Held(b"", NOW + since * HOUR, NOW + (since + 4) * HOUR, number)


@pytest.mark.parametrize(
    ("first", "second", "older"),
    [
        (held(1), held(2), True),
        (held(2), held(1, since=1), False),
        (held(2), held(2, since=1), False),
        (held(), held(since=1), True),
        (held(5), held(since=1), True),
        (held(), held(), False),
    ],
)
def test_the_number_counts_before_the_time(first: Held, second: Held, older: bool) -> None:
    assert first.older_than(second) is older


@pytest.mark.parametrize(("hours", "ending", "ended"), [(2.9, False, False), (3.1, True, False), (4, True, True)])
def test_the_last_quarter_is_the_end(hours: float, ending: bool, ended: bool) -> None:
    now = NOW + hours * HOUR
    assert (held().ending(now), held().ended(now)) == (ending, ended)
