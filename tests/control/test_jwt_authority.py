from __future__ import annotations

from pathlib import Path

from isthmus.control.jwt_authority import JwtAuthority
from isthmus.identity.jwt_keys import LIFE
from isthmus.identity.jwt_store import load
from isthmus.keeping import Keeping
from isthmus.state import StateDir
from tests.identity.making import NOW


def test_keys_outlive_the_control_plane(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    first = JwtAuthority(load(state), Keeping(state, print), lambda: NOW).latest.value
    assert len(first.keys) == 1
    assert JwtAuthority(load(state), Keeping(state, print), lambda: NOW).latest.value == first
    later = JwtAuthority(load(state), Keeping(state, print), lambda: NOW + LIFE / 2).latest.value
    assert later.keys[:1] == first.keys
    assert len(later.keys) == 2
    assert load(state) == later
