"""The service that keeps every watched list and answer fresh, each at its own pace, and says what it has."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from isthmus.errors import RevocationUnavailable, StateUnusable
from isthmus.latest import Latest
from isthmus.revocation.fetch import Fetcher
from isthmus.revocation.held import Held
from isthmus.revocation.schedule import Pace, Schedule
from isthmus.revocation.source import CrlSource, Source
from isthmus.revocation.store import RevocationStore

log = logging.getLogger(__name__)

_LONGEST_SLEEP: Final = timedelta(seconds=30)
"""Then the clock is looked at again: a machine that slept wakes to what is long due."""
_LOOK: Final = timedelta(seconds=1)
"""How often it is seen whether something is ending or has ended."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source as it stands. ``ended`` and ``ending``: of what is held, as of the last look."""

    held: Held | None
    error: str | None
    """Why the latest fetch brought nothing."""
    ending: bool = False
    """Less than a quarter of its life is left."""
    ended: bool = False


@dataclass(slots=True, eq=False)
class _Watched:
    """One source while it is watched; a source dropped and taken up again is another."""

    source: Source
    schedule: Schedule


def _now() -> datetime:
    return datetime.now(UTC)


class RevocationService:
    """Keeps :attr:`status` true for the watched sources while :meth:`run` runs. A slow server delays nobody.

    ``counts`` gets the fetches, by kind and result.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        store: RevocationStore,
        *,
        clock: Callable[[], datetime] = _now,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
        counts: Counter[tuple[str, ...]] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._clock = clock
        self._pace = pace or Pace()
        self._jitter = jitter
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self._watched: dict[Source, _Watched] = {}
        self._wanted: Latest[frozenset[_Watched]] = Latest(frozenset())
        self._unkept = False
        self.status: Latest[Mapping[Source, SourceStatus]] = Latest({})

    def watch(self, sources: frozenset[Source]) -> None:
        """Keep these sources, and no others. What an earlier run left of them is in :attr:`status` on return."""
        if sources == self._watched.keys():
            return
        for source in self._watched.keys() - sources:
            del self._watched[source]
        now = self._clock()
        for source in sources - self._watched.keys():
            self._watched[source] = _Watched(source, Schedule(now, self._store.load(source, now)))
        self._wanted.set(frozenset(self._watched.values()))
        self._publish()

    async def run(self) -> None:
        """Fetch until cancelled."""
        running: dict[_Watched, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look())
            async for wanted in self._wanted:
                for watched in running.keys() - wanted:
                    running.pop(watched).cancel()
                for watched in wanted - running.keys():
                    running[watched] = tasks.create_task(self._keep(watched))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK.total_seconds())
            self._publish()

    async def _keep(self, watched: _Watched) -> None:
        while True:
            if wait := watched.schedule.wait(self._clock(), self._pace):
                await asyncio.sleep(min(wait, _LONGEST_SLEEP).total_seconds())
                continue
            kind = "crl" if isinstance(watched.source, CrlSource) else "ocsp"
            try:
                found = await self._fetch(watched)
            except RevocationUnavailable as fault:
                self._counts[f"isthmus_{kind}_fetches_total", "failure"] += 1
                self._failed(watched, str(fault))
            else:
                self._counts[f"isthmus_{kind}_fetches_total", "success"] += 1
                await self._succeeded(watched, found)

    async def _fetch(self, watched: _Watched) -> Held:
        source = watched.source
        data = await self._fetcher.fetch(source.url, source.request())
        # Off the loop: a list of a million entries takes its time.
        found = await asyncio.to_thread(source.read, data, self._clock())
        held = watched.schedule.held
        if held is not None and found.older_than(held):
            raise RevocationUnavailable(
                f"what is published is older ({found.this_update.isoformat()}) than what is held already"
            )
        return found

    async def _succeeded(self, watched: _Watched, found: Held) -> None:
        before = watched.schedule
        watched.schedule = before.succeeded(found, self._clock(), self._pace)
        self._publish()
        if before.held is None or found.der != before.held.der:
            log.info("%s: in force, until %s", watched.source, found.next_update.isoformat())
            added = len(found.revoked - before.held.revoked) if before.held is not None else 0
            if added:
                log.warning("%s: %d newly revoked", watched.source, added)
            try:
                await asyncio.to_thread(self._store.save, watched.source, found)
            except StateUnusable as fault:
                if not self._unkept:
                    log.error("%s is in force but not kept for the next start: %s", watched.source, fault)
                self._unkept = True
            else:
                self._unkept = False

    def _failed(self, watched: _Watched, error: str) -> None:
        before = watched.schedule
        watched.schedule = before.failed(error, self._clock(), self._pace, self._jitter())
        self._publish()
        if error != before.error:
            effect = "what is held stays in force until it ends" if before.held is not None else "there is none yet"
            log.warning("%s: %s; %s", watched.source, error, effect)

    def _publish(self) -> None:
        now = self._clock()
        self.status.set({source: _status(watched.schedule, now) for source, watched in self._watched.items()})


def _status(schedule: Schedule, now: datetime) -> SourceStatus:
    held = schedule.held
    if held is None:
        return SourceStatus(None, schedule.error)
    return SourceStatus(held, schedule.error, held.ending(now), held.ended(now))
