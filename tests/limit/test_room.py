"""Room for buckets: who makes room for whom, and how much work that is."""

from __future__ import annotations

from isthmus.limit.room import Held, Room


def room(most: int) -> tuple[Room, list[str]]:
    gone: list[str] = []
    return Room(most, lambda bucket, held: gone.append(bucket)), gone


def test_what_is_over_is_forgotten_a_few_at_a_time() -> None:
    found, gone = room(100)
    for index in range(10):
        found.put("a", f"a{index}", float(index))
    looked: list[Held] = []

    def is_over(held: Held) -> bool:
        looked.append(held)
        return True

    found.tidy("b", is_over)
    assert (gone, looked) == (["a0", "a1"], [0.0, 1.0])
    found.tidy("a", is_over)
    assert gone == ["a0", "a1", "a2", "a3", "a4", "a5"]
    for _ in range(10):
        found.tidy("b", is_over)
    assert len(found) == 0
    assert found._shares == {}
    found.put("a", "a0", 1.0)
    assert found.get("a", "a0") == 1.0


def test_every_limit_has_its_turn() -> None:
    found, gone = room(100)
    for limit in ("a", "b", "c"):
        found.put(limit, limit, 0.0)
    for _ in range(3):
        found.tidy("d", lambda held: True)
    assert gone == ["a", "b", "c"]


def test_the_limit_that_has_most_makes_room() -> None:
    found, gone = room(20)
    for index in range(5):
        found.put("few", f"few{index}", ("2026-01", 1))
    for index in range(1000):
        found.put("many", f"many{index}", ("2026-01", 1))
    assert len(found) == 20
    assert not [one for one in gone if one.startswith("few")]


def test_it_is_the_one_that_used_least_of_those_used_longest_ago() -> None:
    found, gone = room(10)
    for index, used in enumerate((5, 4, 1, 3, 9, 9, 9, 9, 0, 0)):
        found.put("a", f"a{index}", ("2026-01", used))
    found.put("a", "a3", ("2026-01", 0))
    found.put("a", "new", ("2026-01", 1))
    assert gone == ["a8"]
    found.put("a", "newer", ("2026-01", 1))
    assert gone == ["a8", "a9"]


def test_rates_and_quotas_of_a_limit_that_was_changed() -> None:
    found, gone = room(2)
    found.put("a", "0", 1000.0)
    found.put("a", "1", ("2026-01", 1))
    found.put("a", "2", 2000.0)
    assert gone == ["1"]
