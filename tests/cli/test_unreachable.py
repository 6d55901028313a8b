"""Commands that ask a running control plane, where none runs."""

from __future__ import annotations

import pytest

from tests.cli.running import Isthmus


@pytest.mark.parametrize(
    "command",
    [("proxies",), ("proxies", "-o", "json"), ("config", "edge"), ("run", "--", "true")],
    ids=["proxies", "proxies-json", "config", "run"],
)
def test_one_line_says_so(isthmus: Isthmus, command: tuple[str, ...]) -> None:
    ran = isthmus(command[0], "--state", "state", *command[1:])
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("isthmus: no control plane answers at ")
    assert line.endswith("/state/api.sock (is `isthmus up` or `serve` running on this machine, with this --state?)")
