from __future__ import annotations

import pytest

from tests.cli.running import Isthmus

TOKEN = ("node", "token", "vm-1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "one of --gateway, --sidecar, --workload-group says what the machine is for"),
        (("--gateway", "a/b", "--sidecar", "a/b"), "one of --gateway, --sidecar, --workload-group"),
        (("--gateway", "edge"), '"edge" is not NAMESPACE/NAME'),
        (("--sidecar", "shop/"), '"shop/" is not NAMESPACE/NAME'),
        (("--sidecar", "shop/orders", "--ttl", "soon"), '"soon" is not a duration'),
        (("--sidecar", "shop/orders", "--label", "orders"), '"orders" is not K=V'),
        (("--gateway", "shop/edge", "--label", "app=edge"), "labels are for the program of --sidecar"),
    ],
)
def test_what_a_token_is_for_is_said_rightly(isthmus: Isthmus, options: tuple[str, ...], said: str) -> None:
    ran = isthmus(*TOKEN, *options)
    assert ran.code == 2
    assert said in ran.said


@pytest.mark.parametrize("command", [(*TOKEN, "--gateway", "shop/edge"), ("node", "list"), ("node", "evict", "vm-1")])
def test_without_a_control_plane_one_line_says_so(isthmus: Isthmus, command: tuple[str, ...]) -> None:
    ran = isthmus(*command, "--state", "state")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("isthmus: no control plane answers at ")
