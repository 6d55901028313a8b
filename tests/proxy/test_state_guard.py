from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from isthmus.errors import StateHeld
from isthmus.proxy.state_guard import guard
from isthmus.state import StateDir


async def test_a_state_that_is_removed_is_made_again_and_held_again(tmp_path: Path) -> None:
    said: list[str] = []
    with StateDir.at(tmp_path / "state").hold("up") as held:
        watching = asyncio.create_task(guard(held, said.append))
        shutil.rmtree(held.state.path)
        for _ in range(300):
            if said:
                break
            await asyncio.sleep(0.02)
        watching.cancel()
        assert "was removed while it is in use" in said[0]
        assert held.state.runtime == held.runtime
        assert held.state.api_socket == held.runtime / "api.sock"
        with pytest.raises(StateHeld, match=r"process \d+ \(up\)"):
            held.state.lock("up")
        assert not held.restore(), "there is nothing more to do"
    assert not held.runtime.exists()
    assert not (tmp_path / "state" / "lock").exists()


def test_a_state_that_another_process_took_meanwhile_is_theirs(tmp_path: Path) -> None:
    with StateDir.at(tmp_path / "state").hold("up") as held:
        shutil.rmtree(held.state.path)
        with StateDir.at(tmp_path / "state").hold("serve") as theirs:
            with pytest.raises(StateHeld):
                held.restore()
            assert theirs.state.runtime == theirs.runtime
