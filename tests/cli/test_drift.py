from __future__ import annotations

import pytest

from isthmus.cli.drift import Difference, not_compared, watch_drift
from isthmus.cli.option import Format
from isthmus.errors import Unreachable
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


class Answers:
    """One after the other; None: nobody answers. Then whoever asks is interrupted."""

    def __init__(self, *answers: list[Difference] | None) -> None:
        self._answers = list(answers)

    async def drift(self) -> list[Difference]:
        if not self._answers:
            raise KeyboardInterrupt
        answer = self._answers.pop(0)
        if answer is None:
            raise Unreachable("no control plane answers")
        return answer


async def test_it_is_watched_over_a_restart(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"proxy": "a", "machine": "local", "kind": "Listener", "name": "l", "difference": "gone", "code": "ISM8001"}
    with pytest.raises(KeyboardInterrupt):
        await watch_drift(Answers([], [one], None, None, [one], []), Format.TEXT, 0)
    told = capsys.readouterr()
    assert told.out == "found: a: Listener l: gone (ISM8001)\nmended: a: Listener l: gone (ISM8001)\n"
    assert told.err == "no control plane answers; watching goes on when one does\n"
    with pytest.raises(Unreachable):
        await watch_drift(Answers(None), Format.TEXT, 0)
