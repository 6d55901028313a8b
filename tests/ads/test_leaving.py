from __future__ import annotations

from datetime import timedelta

from isthmus.ads.leaving import LINGER, Leaving
from isthmus.proxy.envoy import DRAIN

from .playbook import START, cluster

SECOND = timedelta(seconds=1)


def test_a_cluster_outlives_the_listeners_that_drain() -> None:
    assert LINGER > DRAIN


def test_each_goes_at_its_own_time_and_once() -> None:
    leaving = Leaving(5 * SECOND)
    leaving.add(["a"], START)
    leaving.add(["a", "b"], START + SECOND)
    assert "a" in leaving
    assert leaving.next_time == START + 5 * SECOND
    assert leaving.take(START + 4 * SECOND) == []
    assert leaving.take(START + 5 * SECOND) == ["a"]
    assert "a" not in leaving
    assert leaving.next_time == START + 6 * SECOND
    assert leaving.take(START + 60 * SECOND) == ["b"]
    assert leaving.next_time is None


def test_what_is_there_again_does_not_go() -> None:
    leaving = Leaving(SECOND)
    leaving.add(["a", "b"], START)
    leaving.call_back({"a": cluster("a")})
    assert leaving.take(START + SECOND) == ["b"]
