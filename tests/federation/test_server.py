from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.errors import BundleUnavailable
from isthmus.federation.server import FETCHES, BundleStatus, FederationService
from isthmus.federation.source import BundleSource
from isthmus.federation.store import BundleStore
from isthmus.model.spiffe_bundle import SpiffeBundle

from .bundles import TD, bundle, root, spiffe, web

OWN = root("own")
SECOND = timedelta(seconds=1)


@dataclass
class FakeFetcher:
    """Gives the bundle set; fails with the text set instead."""

    answer: SpiffeBundle | str
    vouched: list[tuple[str, ...]] = field(default_factory=list)

    async def fetch(self, source: BundleSource, endpoint_roots: tuple[str, ...]) -> SpiffeBundle:
        self.vouched.append(endpoint_roots)
        if isinstance(self.answer, str):
            raise BundleUnavailable(self.answer)
        return self.answer


@dataclass
class Clock:
    now: datetime = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def service(folder: Path, fetcher: FakeFetcher, clock: Clock | None = None) -> FederationService:
    store = BundleStore(folder / "federation")
    return FederationService(fetcher, store, lambda: (OWN,), clock=clock or Clock(), jitter=lambda: 0.0)


@asynccontextmanager
async def running(found: FederationService) -> AsyncIterator[None]:
    task = asyncio.create_task(found.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(found: FederationService, met: object) -> BundleStatus:
    async with asyncio.timeout(60):
        async for status in found.status:
            if TD in status and met(status[TD]):  # type: ignore[operator]
                return status[TD]
    raise AssertionError("a Latest never ends")


async def test_a_bundle_is_fetched_and_kept_for_the_next_start(tmp_path: Path) -> None:
    given = bundle()
    found = service(tmp_path, FakeFetcher(given))
    found.watch(frozenset({web()}))
    assert found.status.value[TD].bundle is None
    async with running(found):
        status = await until(found, lambda one: one.error is None)
        async with asyncio.timeout(60):
            while BundleStore(tmp_path / "federation").load(web()) is None:
                await asyncio.sleep(0.01)
    assert status.bundle == given
    again = service(tmp_path, FakeFetcher("down"))
    again.watch(frozenset({web()}))
    assert again.status.value[TD].bundle == given
    again.watch(frozenset())
    assert again.status.value == {}


async def test_the_anchor_is_in_force_until_the_first_contact_and_vouches_for_it(tmp_path: Path) -> None:
    anchor, given = bundle(), bundle()
    fetcher = FakeFetcher(given)
    found = service(tmp_path, fetcher)
    found.watch(frozenset({spiffe("https://localhost/", anchor)}))
    assert found.status.value[TD].bundle == anchor
    async with running(found):
        await until(found, lambda one: one.bundle == given)
    assert fetcher.vouched[0] == anchor.roots


async def test_a_bundle_with_an_authority_of_ours_is_refused(tmp_path: Path) -> None:
    found = service(tmp_path, FakeFetcher(bundle(root(), OWN)))
    found.watch(frozenset({web()}))
    async with running(found):
        status = await until(found, lambda one: one.error != "not fetched yet")
    assert status.bundle is None
    assert "an authority of this mesh" in (status.error or "")


async def test_a_failure_is_told_once_and_is_an_alarm_when_it_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clock, fetcher = Clock(), FakeFetcher(bundle(refresh_hint=SECOND))
    counts: Counter[tuple[str, ...]] = Counter()
    found = FederationService(
        fetcher, BundleStore(tmp_path / "f"), lambda: (OWN,), clock=clock, jitter=lambda: 0.0, counts=counts
    )
    found.watch(frozenset({web()}))
    async with running(found):
        await until(found, lambda one: one.error is None)
        fetcher.answer = "down"
        clock.now += 2 * SECOND
        # What waits looks at the clock when its second is over.
        await until(found, lambda one: one.error == "down")
        clock.now += 4 * SECOND
        await until(found, lambda one: one.overdue)
    assert sum("no new bundle" in record.message for record in caplog.records) == 1
    assert sum("ALARM" in record.message for record in caplog.records) == 1
    assert counts[FETCHES, TD, "success"] == 1
    assert counts[FETCHES, TD, "failure"] >= 2
