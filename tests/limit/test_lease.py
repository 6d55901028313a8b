"""Leases: so many at once."""

from __future__ import annotations

from itertools import count

from isthmus.limit.lease import Leases
from tests.limit.playbook import ask, slots


def leases() -> Leases:
    numbers = count()
    return Leases(lambda: f"lease-{next(numbers)}")


def test_so_many_at_once() -> None:
    held, two = leases(), ask("a", slots(2))
    names = [held.acquire((two,), 0)[0] for _ in range(3)]
    assert names == ["lease-0", "lease-1", None]
    assert held.acquire((ask("b", slots(2)),), 0)[0] is not None, "another bucket"
    held.release("lease-0")
    assert held.acquire((two,), 0)[0] is not None
    assert held.acquire((two,), 0)[0] is None


def test_it_can_be_given_back_once() -> None:
    held, one = leases(), ask("a", slots(1))
    name, _ = held.acquire((one,), 0)
    assert name is not None
    held.release(name)
    assert held.acquire((one,), 0)[0] is not None
    held.release(name)
    held.release("never given")
    assert held.acquire((one,), 0)[0] is None


def test_one_that_nobody_gives_back_ends() -> None:
    held, one = leases(), ask("a", slots(1, seconds=60))
    name, _ = held.acquire((one,), 0)
    assert held.acquire((one,), 59)[0] is None
    assert held.acquire((one,), 60)[0] is not None
    assert name is not None
    held.release(name)
    assert held.acquire((one,), 61)[0] is None


def test_all_or_none() -> None:
    held, narrow, wide = leases(), ask("n", slots(1)), ask("w", slots(2))
    assert held.acquire((narrow, wide), 0)[0] is not None
    name, verdicts = held.acquire((wide, narrow), 0)
    assert (name, [one.allowed for one in verdicts]) == (None, [True, False])
    assert held.acquire((wide,), 0)[0] is not None
    assert held.acquire((wide,), 0)[0] is None


def test_on_trial() -> None:
    held, one = leases(), ask("a", slots(1), shadow=True)
    held.acquire((one,), 0)
    name, verdicts = held.acquire((one,), 0)
    assert name is not None
    assert not verdicts[0].allowed


def test_what_is_over_in_one_bucket_goes_on_in_another() -> None:
    held, route, consumer = leases(), ask("route", slots(1, seconds=300)), ask("consumer", slots(1, seconds=60))
    name, _ = held.acquire((route, consumer), 0)
    assert held.acquire((consumer,), 60)[0] is not None
    assert held.acquire((route,), 60)[0] is None, "the request may still be under way"
    assert name is not None
    held.release(name)
    assert held.acquire((route,), 60)[0] is not None
    assert held.acquire((consumer,), 61)[0] is None, "that of another"


def test_what_nobody_asks_for_again_is_forgotten() -> None:
    held = leases()
    held.acquire((ask("long", slots(1, seconds=3600)),), 0)
    for number in range(1000):
        held.acquire((ask(f"one-{number}", slots(1, seconds=1)),), number)
    assert len(held._buckets) == len(held._held) <= 8
    assert held.acquire((ask("long", slots(1)),), 1000)[0] is None
