from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from isthmus.drift import server
from isthmus.drift.finding import Drift, Kind
from isthmus.drift.seen import Seen, Trust, Wanted
from isthmus.drift.server import DriftService
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import admin_v3, core_v3
from isthmus.errors import EnvoyFailed

from .looking import OPTIONS, PROXY, seen, wanted

DRAINING = Drift(PROXY, Kind.STATE, "server", "LIVE → DRAINING")


@dataclass
class Envoy:
    """``now``: what it says of itself; None: nothing."""

    now: Seen | None
    looked: int = 0

    async def __call__(self, wanted: Wanted, known: str) -> Callable[[], Seen | None]:
        assert wanted.proxy == PROXY
        self.looked += 1
        now = self.now
        if now is None:
            raise EnvoyFailed("nobody there")
        return lambda: None if now.digest == known else now


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
    async with asyncio.timeout(60):
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
        async with asyncio.timeout(60):
            assert await service.fresh() == (DRAINING,)


async def test_an_envoy_that_says_nothing_for_long() -> None:
    silent = Drift(PROXY, Kind.STATE, "server", "its admin interface does not answer")
    envoy = Envoy(None)
    async with running(envoy) as service:
        await until(service, silent)
        envoy.now = seen()
        await until(service)


@dataclass
class Machines:
    """Envoys that are elsewhere. None: a machine that never answers."""

    says: Mapping[str, Callable[[], Seen | None] | None]
    asked: set[str] = field(default_factory=set)

    async def __call__(self, wanted: Wanted, known: str) -> Callable[[], Seen | None]:
        self.asked.add(wanted.machine)
        says = self.says[wanted.machine]
        if says is None:
            await asyncio.Event().wait()
        assert says is not None
        return says

    def wanted(self) -> Mapping[str, Wanted]:
        return {f"on {name}": replace(wanted(), proxy=f"on {name}", machine=name) for name in self.says}


def mad() -> Seen:
    dump = admin_v3.ConfigDump(configs=[any_of(core_v3.DataSource())])
    dump.configs[0].type_url = "type.googleapis.com/no.such.Type"
    return Seen(dump, "LIVE", OPTIONS, 0, "warning", "mad")


def unreadable() -> Seen:
    raise EnvoyFailed("cannot be read")


async def test_what_another_machine_says_cannot_end_the_watch() -> None:
    """It may be anything."""
    machines = Machines({"mad": mad, "unreadable": unreadable, "drains": lambda: seen(state="DRAINING")})
    service = DriftService(machines.wanted, machines, QUICK)
    task = asyncio.create_task(service.run())
    await until(
        service,
        Drift("on drains", Kind.STATE, "server", "LIVE → DRAINING", "drains"),
        Drift("on mad", Kind.STATE, "server", "what it says of itself cannot be compared: KeyError", "mad"),
        Drift("on unreadable", Kind.STATE, "server", "cannot be read", "unreadable"),
    )
    assert str(service.found.value[0]) == "ISM8004 on drains on drains: state server: LIVE → DRAINING"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_machine_that_does_not_answer_keeps_nobody_waiting() -> None:
    machines = Machines(dict.fromkeys(("one", "two", "three")))
    task = asyncio.create_task(DriftService(machines.wanted, machines, QUICK).run())
    async with asyncio.timeout(60):
        while machines.asked != {"one", "two", "three"}:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


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
