from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

from isthmus.envoy_api import unpack
from isthmus.proxy.ticket_keys import TURN, TicketKeys

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Counted:
    """Bytes that tell which key they are."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, size: int) -> bytes:
        return bytes([next(self._numbers)]) * size


def kept(keys: TicketKeys) -> list[int]:
    return [key[0] for key in keys.keys]


def test_a_key_seals_for_an_hour_and_opens_for_two_more() -> None:
    """By a clock that only says what time it is."""
    random = Counted()
    keys = TicketKeys.first(BEGAN, random)
    seen = []
    for minutes in range(0, 5 * 60, 20):
        keys = keys.turned(BEGAN + timedelta(minutes=minutes), random)
        seen.append(kept(keys))
    assert seen[::3] == [[1], [2, 1], [3, 2, 1], [4, 3, 2], [5, 4, 3]]
    assert all(seen[at] == seen[at + 2] for at in range(0, 15, 3))


def test_the_same_within_its_turn() -> None:
    keys = TicketKeys.first(BEGAN, Counted())
    assert keys.turned(BEGAN + TURN - timedelta(seconds=1), Counted()) is keys


def test_a_clock_that_was_set_back_does_not_make_a_key_stay() -> None:
    random = Counted()
    keys = TicketKeys.first(BEGAN, random).turned(BEGAN - timedelta(seconds=1), random)
    assert kept(keys) == [2, 1]


def test_a_machine_that_slept_turns_once() -> None:
    random = Counted()
    assert kept(TicketKeys.first(BEGAN, random).turned(BEGAN + 9 * TURN, random)) == [2, 1]


def test_its_secret_has_them_in_order_and_tells_none() -> None:
    random = Counted()
    keys = TicketKeys.first(BEGAN, random).turned(BEGAN + TURN, random)
    served = keys.secret("session-ticket-keys")
    secret = unpack(served.packed)
    assert [len(key.inline_bytes) for key in secret.session_ticket_keys.keys] == [80, 80]  # type: ignore[attr-defined]
    assert tuple(key.inline_bytes for key in secret.session_ticket_keys.keys) == keys.keys  # type: ignore[attr-defined]
    assert "\\x02" not in repr(keys)
    assert served.version == "02020202-01010101"
    assert served.version != TicketKeys.first(BEGAN, random).secret("session-ticket-keys").version
