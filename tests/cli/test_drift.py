from __future__ import annotations

from tests.cli.running import Isthmus


def test_it_has_to_be_said_what_to_compare(isthmus: Isthmus) -> None:
    ran = isthmus("drift", "--state", "state")
    assert ran.code == 2
    assert "say what to compare: --live" in ran.said


def test_nobody_to_ask(isthmus: Isthmus) -> None:
    ran = isthmus("drift", "--live", "--state", "state")
    assert (ran.code, ran.out) == (1, "")
    assert "no control plane answers" in ran.err
