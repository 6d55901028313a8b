"""A decision process as the supervisor runs it: told by standard input, told anew, ended with it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc.aio

from isthmus.model.decision import DecisionService
from isthmus.proxy.decision import DecisionProgram
from isthmus.proxy.log import Logs
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import PlannedService

_SECONDS = 30.0
_MODULE = "tests.test_answering"
"""The smallest decision service there is."""


def planned(settings: dict[str, Any], module: str = _MODULE) -> PlannedService:
    return PlannedService(DecisionService.REGO, 1, module, json.dumps(settings))


async def _said(socket: Path) -> Any:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        return json.loads(await channel.unary_unary("/isthmus.test.Echo/Say")(b"", timeout=_SECONDS))["settings"]


async def test_started_told_anew_and_ended(tmp_path: Path) -> None:
    folders = Folders(tmp_path, tmp_path)
    program = DecisionProgram(planned({"key": 1}), folders, Logs(), lambda _who, _what: None)
    socket = folders.decision_socket(DecisionService.REGO, 1)
    assert not program.listens
    child = await program.start()
    try:
        async with asyncio.timeout(_SECONDS):
            while not program.listens:
                await asyncio.sleep(0.01)
        assert await _said(socket) == {"key": 1}
        assert program.takes(planned({"key": 2}))
        async with asyncio.timeout(_SECONDS):
            while await _said(socket) != {"key": 2}:
                await asyncio.sleep(0.01)
        assert not program.takes(planned({"key": 3}, "another.module"))
    finally:
        code = await program.stop(child)
    assert code == 0
    assert not program.listens


async def test_one_that_starts_again_is_told_the_newest(tmp_path: Path) -> None:
    folders = Folders(tmp_path, tmp_path)
    program = DecisionProgram(planned({"key": 1}), folders, Logs(), lambda _who, _what: None)
    first = await program.start()
    assert program.takes(planned({"key": 2}))
    first.kill()
    await first.wait()
    socket = folders.decision_socket(DecisionService.REGO, 1)
    second = await program.start(first.returncode)
    try:
        async with asyncio.timeout(_SECONDS):
            while not program.listens:
                await asyncio.sleep(0.01)
        assert await _said(socket) == {"key": 2}
    finally:
        await program.stop(second)


def test_a_plan_does_not_show_what_services_are_told() -> None:
    assert "hunter2" not in repr(planned({"password": "hunter2"}))
    assert planned({}).name == "rego-1"
