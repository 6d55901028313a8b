from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from isthmus.revocation.schedule import Pace
from isthmus.revocation.server import RevocationService, SourceStatus
from isthmus.revocation.source import CrlSource
from isthmus.revocation.store import RevocationStore
from tests.real.pki import Authority

from .making import HOUR, NOW, FakeFetcher, crl

CA = Authority("clients")
URL = "http://ca.example/crl"
SOURCE = CrlSource(URL, CA.pem)
QUICK = Pace(
    longest=timedelta(seconds=0.02),
    shortest=timedelta(seconds=0.01),
    first_retry=timedelta(seconds=0.01),
    longest_retry=timedelta(seconds=0.02),
)


class Clock:
    """From NOW on as the real one goes, moved: tests run long after they were collected."""

    def __init__(self) -> None:
        self.moved = timedelta()
        self._began = time.monotonic()

    def __call__(self) -> datetime:
        return NOW + timedelta(seconds=time.monotonic() - self._began) + self.moved


def service(
    fetcher: FakeFetcher, folder: Path, clock: Clock | None = None, counts: Counter[tuple[str, ...]] | None = None
) -> RevocationService:
    made = RevocationService(fetcher, RevocationStore(folder), clock=clock or Clock(), pace=QUICK, counts=counts)
    made.watch(frozenset({SOURCE}))
    return made


@asynccontextmanager
async def running(one: RevocationService) -> AsyncIterator[None]:
    task = asyncio.create_task(one.run())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(one: RevocationService, fits: Callable[[SourceStatus], object]) -> SourceStatus:
    async with asyncio.timeout(60):
        async for status in one.status:
            if fits(status[SOURCE]):
                return status[SOURCE]
    raise AssertionError


async def test_a_list_is_fetched_kept_and_there_at_the_next_start(tmp_path: Path) -> None:
    counts: Counter[tuple[str, ...]] = Counter()
    first = service(FakeFetcher(**{URL: crl(CA, 7)}), tmp_path, counts=counts)
    assert first.status.value[SOURCE] == SourceStatus(None, "not fetched yet")
    async with running(first):
        status = await until(first, lambda found: found.held)
        assert status.held is not None
        assert (status.held.revoked, status.error) == (frozenset({7}), None)
        async with asyncio.timeout(60):
            while service(FakeFetcher(), tmp_path).status.value[SOURCE].held != status.held:
                await asyncio.sleep(0.01)
    assert counts["isthmus_crl_fetches_total", "success"] >= 1


async def test_a_server_that_is_down_takes_nothing_away(tmp_path: Path) -> None:
    fetcher, counts = FakeFetcher(**{URL: crl(CA, 7)}), Counter[tuple[str, ...]]()
    one = service(fetcher, tmp_path, counts=counts)
    async with running(one):
        await until(one, lambda found: found.held)
        fetcher.answers[URL] = "down"
        status = await until(one, lambda found: found.error)
        assert status.held is not None
        assert counts["isthmus_crl_fetches_total", "failure"] >= 1
        fetcher.answers[URL] = crl(CA, 7, 8)
        status = await until(one, lambda found: found.held and 8 in found.held.revoked)
        assert status.error is None


async def test_an_older_list_does_not_come_back(tmp_path: Path) -> None:
    fetcher = FakeFetcher(**{URL: crl(CA, 7, number=2)})
    one = service(fetcher, tmp_path)
    async with running(one):
        await until(one, lambda found: found.held)
        fetcher.answers[URL] = crl(CA, number=1)
        status = await until(one, lambda found: found.error)
        assert status.error is not None
        assert "older" in status.error
        assert status.held is not None
        assert status.held.revoked == {7}


async def test_the_end_is_seen_coming(tmp_path: Path) -> None:
    clock = Clock()
    one = service(FakeFetcher(**{URL: crl(CA, 7, until=NOW + HOUR)}), tmp_path, clock)
    async with running(one):
        await until(one, lambda found: found.held and not found.ending)
        clock.moved = timedelta(minutes=50)
        assert not (await until(one, lambda found: found.ending)).ended
        clock.moved = timedelta(minutes=70)
        await until(one, lambda found: found.ended)


async def test_what_nobody_wants_any_more_is_not_fetched(tmp_path: Path) -> None:
    fetcher = FakeFetcher(**{URL: crl(CA)})
    one = service(fetcher, tmp_path)
    async with running(one):
        await until(one, lambda found: found.held)
        one.watch(frozenset())
        assert one.status.value == {}
        await asyncio.sleep(0.05)
        asked = len(fetcher.asked)
        await asyncio.sleep(0.1)
        assert len(fetcher.asked) == asked
