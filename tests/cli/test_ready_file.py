"""The ready file: whole, never that of an earlier run, and a fault of its place is told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.cli import ready_file
from isthmus.errors import Refused
from tests.cli.running import Isthmus

TOO_LONG = "r" * 300
"""No file system takes it, whoever asks: tests may run as root."""


def test_written_whole_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    ready_file.clear(path)
    ready_file.write(path, {"pid": 1})
    assert json.loads(path.read_text()) == {"pid": 1}
    assert list(tmp_path.iterdir()) == [path]
    ready_file.remove(path)
    ready_file.remove(path)
    assert not path.exists()


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("{}")
    ready_file.clear(path)
    assert not path.exists()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such folder to write the ready file in"):
        ready_file.clear(tmp_path / "missing" / "ready.json")
    with pytest.raises(Refused, match="the ready file cannot be written: File name too long"):
        ready_file.clear(tmp_path / TOO_LONG)
    with pytest.raises(Refused, match="the ready file cannot be written: File name too long"):
        ready_file.write(tmp_path / TOO_LONG, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [Path("missing", "ready.json"), Path(TOO_LONG)], ids=["no folder", "no name"])
def test_up_ends_with_one_line(isthmus: Isthmus, place: Path) -> None:
    Path("shop.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    ran = isthmus("up", "shop.yaml", "--state", "state", "--ready-file", str(place))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert "ready file" in ran.err
