from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from isthmus.keeping import Keeping
from isthmus.state import StateDir


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


def block(state: StateDir) -> None:
    """What a full disk is to writes, for any user: a file where a folder is wanted."""
    (state.path / "folder").write_bytes(b"")


def unblock(state: StateDir) -> None:
    (state.path / "folder").unlink()


def test_it_writes_as_the_state_does(state: StateDir) -> None:
    told = Told()
    keeping = Keeping(state, told)
    keeping.write_private("folder/a", b"one")
    assert state.read("folder/a") == keeping.read("folder/a") == b"one"
    assert keeping.read("folder/b") is None
    assert told.lines == []


def test_what_cannot_be_written_is_held_told_once_and_written_when_it_can_be(state: StateDir) -> None:
    told = Told()
    keeping = Keeping(state, told)
    block(state)
    keeping.write_private("folder/a", b"one")
    keeping.write_private("folder/b", b"two")
    keeping.write_private("folder/a", b"three")
    keeping.retry()
    assert keeping.read("folder/a") == b"three"
    assert len(told.lines) == 1
    assert "what runs goes on" in told.lines[0]
    unblock(state)
    keeping.retry()
    assert (state.read("folder/a"), state.read("folder/b")) == (b"three", b"two")
    assert told.lines[1:] == ["the state is written again"]


def test_what_waits_is_found_by_whoever_is_started_next(state: StateDir, tmp_path: Path) -> None:
    aside = StateDir.at(tmp_path / "aside")
    block(state)
    Keeping(state, Told(), aside).write_private("folder/a", b"one")
    unblock(state)
    state.write_private("folder/a", b"older")
    next_one = Keeping(state, Told(), aside)
    assert next_one.read("folder/a") == b"one"
    next_one.retry()
    assert state.read("folder/a") == b"one"
    assert aside.read("folder/a") is None


def test_what_somebody_removed_is_written_anew(state: StateDir) -> None:
    state.write_private("read", b"before")
    keeping = Keeping(state, Told())
    keeping.write_private("folder/a", b"one")
    assert keeping.read("read") == b"before"
    shutil.rmtree(state.path)
    keeping.retry()
    assert (state.read("folder/a"), state.read("read")) == (b"one", b"before")
