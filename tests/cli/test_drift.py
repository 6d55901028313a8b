from __future__ import annotations

from isthmus.cli.drift import not_compared
from tests.cli.running import Isthmus


def test_it_has_to_be_said_what_to_compare(isthmus: Isthmus) -> None:
    ran = isthmus("drift", "--state", "state")
    assert ran.code == 2
    assert "say what to compare: --live" in ran.said


def test_nobody_to_ask(isthmus: Isthmus) -> None:
    ran = isthmus("drift", "--live", "--state", "state")
    assert (ran.code, ran.out) == (1, "")
    assert "no control plane answers" in ran.err


def test_proxies_of_machines_that_are_away_are_said_not_to_be_compared() -> None:
    places = {"gateway~a": "edge-1", "gateway~b": "edge-2", "sidecar~here": "local", "sidecar~nowhere": None}
    proxies = [{"id": id_, "node": node} for id_, node in places.items()]
    nodes = [{"name": "edge-1", "state": "away"}, {"name": "edge-2", "state": "connected"}]
    assert not_compared(proxies, nodes) == ["gateway~a on edge-1"]
