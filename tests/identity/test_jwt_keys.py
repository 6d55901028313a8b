from __future__ import annotations

from datetime import timedelta

from isthmus.identity.jwt_keys import LIFE, JwtKeys
from tests.identity.making import NOW


def test_the_first_key_signs_at_once() -> None:
    keys = JwtKeys().advanced(NOW)
    assert keys.signing(NOW) == keys.keys[0]
    assert keys.advanced(NOW + timedelta(days=1)) == keys


def test_the_next_is_known_long_before_it_signs() -> None:
    first = JwtKeys().advanced(NOW)
    half = NOW + LIFE / 2
    both = first.advanced(half)
    assert len(both.public) == 2
    assert both.signing(half) == first.keys[0]
    assert both.signing(NOW + LIFE * 4 / 5) == first.keys[0]
    assert both.signing(NOW + LIFE * 6 / 7) == both.keys[1]
    # What the first signed is proved until its end.
    assert len(both.advanced(NOW + LIFE - timedelta(seconds=1)).public) == 2
    assert first.keys[0] not in both.advanced(NOW + LIFE).keys


def test_a_long_sleep_leaves_one_that_signs() -> None:
    keys = JwtKeys().advanced(NOW)
    later = NOW + 10 * LIFE
    woken = keys.advanced(later)
    assert len(woken.keys) == 1
    assert woken.signing(later).expires == later + LIFE
