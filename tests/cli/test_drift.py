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


def test_proxies_of_other_machines_are_said_not_to_be_compared() -> None:
    nodes = {"gateway~shop~edge": "edge-1", "sidecar~shop~here": "local", "sidecar~shop~nowhere": None}
    assert not_compared([{"id": id_, "node": node} for id_, node in nodes.items()]) == ["gateway~shop~edge"]
