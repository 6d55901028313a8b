"""``isthmus svid`` where nothing answers; with a mesh: tests/real/test_workload_api.py."""

from __future__ import annotations

import pytest

from tests.cli.running import Isthmus


@pytest.mark.parametrize("command", [("x509",), ("jwt", "--audience", "vault")])
def test_nothing_runs(isthmus: Isthmus, command: tuple[str, ...]) -> None:
    ran = isthmus("svid", *command, "--state", "state")
    assert (ran.code, ran.out) == (1, "")
    assert "no `isthmus up` runs with the state state" in ran.err
    ran = isthmus("svid", *command, "--socket", "unix:///nowhere/api.sock")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("isthmus: no Workload API at /nowhere/api.sock")


def test_what_is_no_socket(isthmus: Isthmus) -> None:
    ran = isthmus("svid", "x509", "--socket", "api.sock")
    assert ran.code == 1
    assert '"api.sock" is not unix:/// and an absolute path' in ran.err


def test_an_audience_is_needed(isthmus: Isthmus) -> None:
    assert isthmus("svid", "jwt").code == 2
