from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from isthmus.drift import server
from isthmus.drift.finding import Drift, Kind
from isthmus.drift.seen import Seen, Trust, Wanted
from isthmus.drift.server import DriftService
from isthmus.errors import EnvoyFailed

from .looking import PROXY, seen, wanted

DRAINING = Drift(PROXY, Kind.STATE, "server", "LIVE → DRAINING")


@dataclass
class Envoy:
    """``now``: what it says of itself; None: nothing."""

    now: Seen | None
    looked: int = 0

    async def __call__(self, proxy: str) -> Seen | None:
        assert proxy == PROXY
        self.looked += 1
        if self.now is None:
            raise EnvoyFailed("nobody there")
        return self.now


def all_wanted() -> Mapping[str, Wanted]:
    return {PROXY: wanted()}


QUICK = server.Pace(
    every=timedelta(milliseconds=20),
    again=timedelta(milliseconds=10),
    certain_after=timedelta(milliseconds=60),
    gone_after=timedelta(milliseconds=100),
)


@asynccontextmanager
async def running(envoy: Envoy, pace: server.Pace = QUICK) -> AsyncIterator[DriftService]:
    service = DriftService(all_wanted, envoy, pace)
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(service: DriftService, *found: Drift) -> None:
    async with asyncio.timeout(10):
        async for now in service.found:
            if now == found:
                return


async def test_what_lasts_is_told_once_and_once_when_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    envoy = Envoy(seen(state="DRAINING"))
    async with running(envoy) as service:
        await until(service, DRAINING)
        envoy.now = seen()
        await until(service)
    assert [record.message for record in caplog.records] == [f"ALARM: {DRAINING}", f"mended: {DRAINING}"]


async def test_what_passes_is_not_told() -> None:
    envoy = Envoy(seen(state="DRAINING"))
    async with running(envoy, server.Pace(again=timedelta(milliseconds=10))) as service:
        while not envoy.looked > 1:
            await asyncio.sleep(0.01)
        envoy.now = seen()
        assert await service.fresh() == ()
        assert service.found.value == ()


async def test_a_fresh_answer_waits_until_it_is_certain() -> None:
    envoy = Envoy(seen())
    async with running(envoy, server.Pace(timedelta(hours=1), QUICK.again, QUICK.certain_after)) as service:
        assert await service.fresh() == ()
        envoy.now = seen(state="DRAINING")
        async with asyncio.timeout(10):
            assert await service.fresh() == (DRAINING,)


async def test_an_envoy_that_says_nothing_for_long() -> None:
    silent = Drift(PROXY, Kind.STATE, "server", "its admin interface does not answer")
    envoy = Envoy(None)
    async with running(envoy) as service:
        await until(service, silent)
        envoy.now = seen()
        await until(service)


async def test_what_was_declared_anew_meanwhile_is_not_judged() -> None:
    envoy, turns = Envoy(seen(state="DRAINING")), iter(range(10**6))

    def changing() -> Mapping[str, Wanted]:
        return {PROXY: wanted(trust=(Trust(f"td{next(turns)}", ()),))}

    service = DriftService(changing, envoy, QUICK)
    task = asyncio.create_task(service.run())
    while not envoy.looked > 15:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert service.found.value == ()
