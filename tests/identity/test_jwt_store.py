from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.identity.jwt_keys import JwtKeys
from isthmus.identity.jwt_store import FILE, encoded, load
from isthmus.state import StateDir
from tests.identity.making import NOW


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    assert load(state) == JwtKeys()
    keys = JwtKeys().advanced(NOW)
    state.write_private(FILE, encoded(keys))
    assert load(state) == keys
    assert load(state).public == keys.public
    assert state.within(FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[{}]", b'[{"key": "x", "made": "now", "expires": "then"}]'])
def test_what_is_not_ours_is_told_without_its_content(tmp_path: Path, content: bytes) -> None:
    state = StateDir.at(tmp_path / "state").open()
    state.write_private(FILE, content)
    if content == b"{}":
        assert load(state) == JwtKeys()
        return
    with pytest.raises(StateUnusable, match="JWT-SVIDs"):
        load(state)
