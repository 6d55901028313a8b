"""The shell of decision processes: told by standard input, asked on a Unix socket, gone with standard input."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from isthmus.answering import Settings, answer, forget_environment

_SECONDS = 30.0
_METHOD = "/isthmus.test.Echo/Say"


class Echo:
    """Says what it was told, and what it sees of its environment."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self._settings = settings
        self._state = state

    @property
    def handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        method = grpc.unary_unary_rpc_method_handler(self._say)
        return (grpc.method_handlers_generic_handler("isthmus.test.Echo", {"Say": method}),)

    async def update(self, settings: Settings) -> None:
        self._settings = settings

    async def close(self) -> None:
        (self._state / "closed").write_text("closed")

    async def _say(self, _request: bytes, _context: object) -> bytes:
        return json.dumps({"settings": self._settings, "secret": os.environ.get("SECRET")}).encode()


async def start(settings: Settings, state: Path) -> Echo:
    return Echo(settings, state)


async def _said(socket: Path) -> dict[str, Any]:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        answered: bytes = await channel.unary_unary(_METHOD)(b"", timeout=_SECONDS)
    found: dict[str, Any] = json.loads(answered)
    return found


async def test_told_asked_told_again_and_gone(tmp_path: Path) -> None:
    socket = tmp_path / "echo.decide"
    socket.write_text("left by one that was killed")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.test_answering", stdin=asyncio.subprocess.PIPE, env={**os.environ, "SECRET": "x"}
    )
    assert process.stdin is not None
    told = {"socket": str(socket), "state": str(tmp_path), "settings": {"key": 1}}
    process.stdin.write(json.dumps(told).encode() + b"\n")
    async with asyncio.timeout(_SECONDS):
        while not socket.is_socket():
            await asyncio.sleep(0.01)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert await _said(socket) == {"settings": {"key": 1}, "secret": None}
    process.stdin.write(json.dumps({"settings": {"key": 2}}).encode() + b"\n")
    async with asyncio.timeout(_SECONDS):
        while (await _said(socket))["settings"] != {"key": 2}:
            await asyncio.sleep(0.01)
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), _SECONDS) == 0
    assert not socket.exists()
    assert (tmp_path / "closed").exists()


def test_only_what_is_needed_to_run_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "TZ": "UTC"})
    forget_environment()
    assert os.environ == {"PATH": "/bin", "TZ": "UTC"}


if __name__ == "__main__":
    answer(start)
