from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Isthmus

PLANE = ("--control-plane", "127.0.0.1:1")
GATEWAY = ("proxy", "gateway", *PLANE, "--gateway", "shop/edge", "--state", "state")
SIDECAR = ("proxy", "sidecar", *PLANE, "--state", "state")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("proxy", "gateway", *PLANE, "--gateway", "edge"), '"edge" is not NAMESPACE/NAME'),
        (("proxy", "gateway", "--control-plane", "10.0.0.1:x", "--gateway", "a/b"), "is not HOST or HOST:PORT"),
        (("proxy", "gateway", "--control-plane", "10.0.0.1:70000", "--gateway", "a/b"), "is not HOST or HOST:PORT"),
        ((*GATEWAY, "--address", "here"), '"here" is not an IP address'),
        ((*SIDECAR, "--port", "8080"), "is not NAME:NUMBER or NAME:NUMBER=APP"),
        ((*SIDECAR, "--port", "http:80=99999"), "is not NAME:NUMBER or NAME:NUMBER=APP"),
        ((*SIDECAR, "--label", "app"), '"app" is not K=V'),
        ((*SIDECAR, "--service-account", "A/B"), "is not a service account"),
        ((*SIDECAR, "--workload-group", "shop/orders", "--label", "a=b"), "labels and account are the group's own"),
    ],
)
def test_wrong_usage(isthmus: Isthmus, command: tuple[str, ...], said: str) -> None:
    ran = isthmus(*command)
    assert ran.code == 2
    assert said in ran.said
    assert not Path("state").exists()


@pytest.mark.parametrize("command", [GATEWAY, SIDECAR], ids=["gateway", "sidecar"])
def test_a_machine_that_never_joined_is_told_what_it_needs(isthmus: Isthmus, command: tuple[str, ...]) -> None:
    ran = isthmus(*command)
    assert (ran.code, ran.out) == (1, "")
    said = "isthmus: this machine has not joined yet: it needs a new join token (`isthmus node token`, where the "
    assert ran.err.startswith(said)


def test_a_token_in_a_file_that_is_none_is_not_repeated(isthmus: Isthmus) -> None:
    Path("token").write_text("isthmus-join-1.c2VjcmV0")
    ran = isthmus(*GATEWAY, "--join-file", "token")
    assert (ran.code, ran.err) == (1, "isthmus: this join token is damaged: copy it whole\n")
    ran = isthmus(*GATEWAY, "--join-file", "nowhere")
    assert ran.code == 1
    assert "nowhere: the join token cannot be read" in ran.err
