from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from isthmus.decide.rego import decision_log
from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.decision_log import DecisionLogger, LogSettings, read_settings
from isthmus.errors import RegoBundleRefused
from tests.decide.rego.test_event import decision

TO = LogSettings({"id": "local"}, "http://logs.example/opa/", "open")


class Post:
    """Takes events, unless it is told to fail."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self.failing = False

    async def post(self, url: str, token: str | None, events: bytes) -> None:
        assert (url, token) == ("http://logs.example/opa/logs", "open")
        if self.failing:
            raise RegoBundleRefused("status 503")
        found = json.loads(events)
        self.calls.append(len(found))
        self.events += found


class File:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.full = False

    def __call__(self, line: bytes) -> bool:
        assert line.endswith(b"\n")
        if not self.full:
            self.lines.append(json.loads(line))
        return not self.full


class World:
    def __init__(self) -> None:
        self.file, self.post = File(), Post()
        self.logger = DecisionLogger(self.file, self.post, lambda: 0.0)

    def told(self, number: int) -> Decision:
        return replace(decision(), decision_id=str(number), requested_by="")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.logger.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, check: Any) -> None:
        async with asyncio.timeout(60):
            while not check():
                await asyncio.sleep(0.01)


@pytest.fixture
def world() -> World:
    return World()


async def test_decisions_are_told_in_order(world: World) -> None:
    world.logger.follow({"shop/authz": TO})
    for number in range(50):
        world.logger.log(world.told(number))
    async with world.running():
        await world.until(lambda: len(world.post.events) == 50)
    assert [line["decision_id"] for line in world.file.lines] == [str(number) for number in range(50)]
    assert world.post.events == world.file.lines
    assert world.post.calls == [50]
    assert world.logger.dropped == 0


async def test_only_whose_policy_asks_for_it(world: World) -> None:
    world.logger.follow({"shop/authz": LogSettings({})})
    async with world.running():
        world.logger.log(replace(world.told(1), policy="shop/other"))
        world.logger.log(world.told(2))
        await world.until(lambda: world.file.lines)
        world.logger.follow({})
        world.logger.log(world.told(3))
        await asyncio.sleep(0.05)
    assert [line["decision_id"] for line in world.file.lines] == ["2"]
    assert not world.post.events


async def test_a_server_that_is_away_gets_them_later(world: World) -> None:
    world.logger.follow({"shop/authz": TO})
    world.post.failing = True
    async with world.running():
        world.logger.log(world.told(1))
        await world.until(lambda: world.file.lines)
        await asyncio.sleep(1.2)
        world.logger.log(world.told(2))
        world.post.failing = False
        await world.until(lambda: len(world.post.events) == 2)
    assert [one["decision_id"] for one in world.post.events] == ["1", "2"]


async def test_what_nobody_takes_is_lost_and_counted(world: World) -> None:
    world.logger.follow({"shop/authz": TO})
    body = {"attributes": {"request": {"http": {"body": "x" * (1 << 20)}}}}
    for number in range(20):
        world.logger.log(replace(world.told(number), input=body))
    lost = world.logger.dropped
    assert 0 < lost < 20
    async with world.running():
        await world.until(lambda: len(world.file.lines) == 20 - lost)
        assert world.file.lines[0]["metrics"]["counter_decision_logs_dropped"] == lost
        assert "counter_decision_logs_dropped" not in world.file.lines[1]["metrics"]
        world.file.full = True
        world.logger.log(world.told(99))
        await world.until(lambda: world.logger.dropped == lost + 1)
        world.file.full = False
        world.logger.log(world.told(100))
        await world.until(lambda: world.file.lines[-1]["decision_id"] == "100")
        assert world.file.lines[-1]["metrics"]["counter_decision_logs_dropped"] == 1


async def test_what_waits_for_a_server_is_bounded() -> None:
    lost: list[int] = []
    upload = decision_log._Upload("http://logs.example", None, Post(), lambda: 0.0, lost.append)
    for _ in range(20):
        upload.add(b"x" * (1 << 20))
    assert len(lost) == 4


async def test_a_mask_that_fails_lets_nothing_out(world: World) -> None:
    world.logger.follow({"shop/authz": TO})
    async with world.running():
        world.logger.log(decision('mask contains "/labels"'))
        await world.until(lambda: world.logger.dropped == 1)
    assert not world.file.lines


async def test_what_cannot_be_written_is_lost_and_the_next_is_told(world: World) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    world.logger.follow({"shop/authz": LogSettings({})})
    async with world.running():
        world.logger.log(replace(world.told(1), input=deep))
        world.logger.log(world.told(2))
        await world.until(lambda: world.file.lines)
    assert [line["decision_id"] for line in world.file.lines] == ["2"]
    assert world.logger.dropped == 1


async def test_the_last_ones_are_told(world: World) -> None:
    world.logger.follow({"shop/authz": TO})
    async with world.running():
        world.logger.log(world.told(1))
        await world.logger.drain(10)
        assert (len(world.file.lines), len(world.post.events)) == (1, 1)
        world.post.failing = True
        world.logger.log(world.told(2))
        await world.logger.drain(0.1)
    assert len(world.file.lines) == 2


def test_settings() -> None:
    assert read_settings({"url": None, "token": None, "labels": {"id": "a"}}) == LogSettings({"id": "a"})
    told = read_settings({"url": "https://logs.example", "token": "open", "labels": {}})
    assert told == LogSettings({}, "https://logs.example", "open")
    assert "open" not in repr(told)
