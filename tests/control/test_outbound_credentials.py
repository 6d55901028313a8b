from __future__ import annotations

import stat
from pathlib import Path

import pytest

from isthmus.control.outbound_credentials import OutboundCredentials
from isthmus.state import StateDir


def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


def test_each_sidecar_has_a_secret_of_its_own(tmp_path: Path) -> None:
    settled = OutboundCredentials(state(tmp_path)).settle(["a", "b"])
    assert settled.keys() == {"a", "b"}
    assert settled["a"] != settled["b"]
    assert all(len(credential) >= 32 for credential in settled.values())


def test_programs_need_no_restart(tmp_path: Path) -> None:
    folder = state(tmp_path)
    first = OutboundCredentials(folder).settle(["a", "b"])
    again = OutboundCredentials(folder)
    assert again.settle(["b", "a"]) == first
    assert again.settle(["a", "b", "c"])["a"] == first["a"]


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    credentials = OutboundCredentials(state(tmp_path))
    first = credentials.settle(["a"])["a"]
    assert credentials.settle([]) == {}
    assert credentials.settle(["a"])["a"] != first


def test_they_are_for_the_owner_alone(tmp_path: Path) -> None:
    folder = state(tmp_path)
    OutboundCredentials(folder).settle(["a"])
    assert stat.S_IMODE((folder.path / "outbound.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("spoilt", [b"", b"{", b"5", b"[]", b"\xff"])
def test_a_spoilt_file_counts_as_none(tmp_path: Path, spoilt: bytes) -> None:
    folder = state(tmp_path)
    folder.write_private("outbound.json", spoilt)
    assert OutboundCredentials(folder).settle(["a"])["a"]
