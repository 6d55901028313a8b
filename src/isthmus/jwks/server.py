"""The service that keeps every issuer's keys fresh, each at its own pace, and says what it has."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from isthmus.errors import JwksUnavailable, StateUnusable
from isthmus.jwks.fetch import Fetcher
from isthmus.jwks.refresh import Pace, Schedule
from isthmus.jwks.source import JwksSource
from isthmus.jwks.store import JwksStore, read_file
from isthmus.latest import Latest
from isthmus.model.key_set import KeySet

log = logging.getLogger(__name__)

_FAILURES_TOLD: Final = 5
"""In a row, until the user hears of an issuer that never answered: one that starts beside us is not there at once."""
_LONGEST_SLEEP: Final = timedelta(seconds=30)
"""Then the clock is looked at again: a machine that slept wakes to what is long due."""


@dataclass(frozen=True, slots=True)
class JwksStatus:
    """One source's keys as they stand. Without ``keys`` its tokens are refused, and ``error`` says why."""

    keys: KeySet | None
    fetched_at: datetime | None
    """When the issuer itself gave ``keys``; None for keys from a file, and without keys."""
    error: str | None = None
    """Why the latest attempt to get keys failed."""
    stale: bool = False
    """The keys are in force, but the latest attempt did not confirm them (or none was made since the start)."""


@dataclass(slots=True, eq=False)
class _Watched:
    """One source while it is watched; a source dropped and taken up again is another."""

    source: JwksSource
    schedule: Schedule


def _now() -> datetime:
    return datetime.now(UTC)


class JwksService:
    """Keeps :attr:`status` true for the watched sources while :meth:`run` runs. A slow issuer delays nobody.

    ``fixed`` are keys by issuer that stand for that issuer, whatever its URL (``--jwks``); it is never asked.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        store: JwksStore,
        fixed: Mapping[str, KeySet] | None = None,
        *,
        clock: Callable[[], datetime] = _now,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
        counts: Counter[tuple[str, ...]] | None = None,
    ) -> None:
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self._fetcher = fetcher
        self._store = store
        self._fixed = {issuer: JwksStatus(keys, None) for issuer, keys in (fixed or {}).items()}
        self._clock = clock
        self._pace = pace or Pace()
        self._jitter = jitter
        self._sources: frozenset[JwksSource] = frozenset()
        self._watched: dict[JwksSource, _Watched] = {}
        self._unkept = False
        self._wanted: Latest[frozenset[_Watched]] = Latest(frozenset())
        self.status: Latest[Mapping[JwksSource, JwksStatus]] = Latest({})

    def watch(self, sources: frozenset[JwksSource]) -> None:
        """Keep these sources, and no others. Their fixed or last good keys are in :attr:`status` on return."""
        self._sources = sources
        self._arrange()

    def set_fixed(self, issuer: str, keys: KeySet) -> None:
        """New content of an issuer's ``--jwks`` file."""
        self._fixed[issuer] = JwksStatus(keys, None)
        self._arrange()

    def keep_fixed(self, issuer: str, error: str) -> None:
        """An issuer's ``--jwks`` file is broken now: what it gave before stays in force, marked stale."""
        before = self._fixed.get(issuer, JwksStatus(None, None))
        self._fixed[issuer] = JwksStatus(before.keys, None, error, stale=before.keys is not None)
        self._arrange()

    async def run(self) -> None:
        """Fetch until cancelled."""
        running: dict[_Watched, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            async for wanted in self._wanted:
                for watched in running.keys() - wanted:
                    running.pop(watched).cancel()
                for watched in wanted - running.keys():
                    running[watched] = tasks.create_task(self._keep(watched))

    def _arrange(self) -> None:
        fetched = {source for source in self._sources if source.issuer not in self._fixed}
        for source in self._watched.keys() - fetched:
            del self._watched[source]
        for source in fetched - self._watched.keys():
            self._watched[source] = _Watched(source, self._resume(source))
        self._wanted.set(frozenset(self._watched.values()))
        self._publish()

    def _resume(self, source: JwksSource) -> Schedule:
        stored = self._store.load(source)
        if stored is None:
            return Schedule(due=self._clock())
        return Schedule(due=self._clock(), keys=stored.keys, fetched_at=stored.fetched_at)

    async def _keep(self, watched: _Watched) -> None:
        while True:
            if wait := watched.schedule.wait(self._clock(), self._pace):
                await asyncio.sleep(min(wait, _LONGEST_SLEEP).total_seconds())
                continue
            try:
                keys = await self._fetcher.fetch(watched.source)
            except JwksUnavailable as fault:
                self._counts["pilot_jwks_resolver_network_fetch_fail_total",] += 1
                self._failed(watched, str(fault))
            else:
                self._counts["pilot_jwks_resolver_network_fetch_success_total",] += 1
                await self._succeeded(watched, keys)

    async def _succeeded(self, watched: _Watched, keys: KeySet) -> None:
        before, now = watched.schedule, self._clock()
        watched.schedule = before.succeeded(keys, now, self._pace)
        self._publish()
        if keys != before.keys or before.failures:
            log.info("keys of %s: %s", watched.source.issuer, ", ".join(keys.key_ids) or "without key ids")
        for reason in () if before.keys == keys else keys.dropped:
            log.warning("keys of %s: left out %s", watched.source.issuer, reason)
        try:
            # Off the loop: a write that waits for the disk must hold up no proxy's stream.
            await asyncio.to_thread(self._store.save, watched.source, keys, now)
        except StateUnusable as fault:
            if not self._unkept:
                log.error("keys of %s are in force but not kept for the next start: %s", watched.source.issuer, fault)
            self._unkept = True
        else:
            self._unkept = False

    def _failed(self, watched: _Watched, error: str) -> None:
        before = watched.schedule
        watched.schedule = before.failed(error, self._clock(), self._pace, self._jitter())
        self._publish()
        failures, told = before.failures + 1, 1 if before.keys else _FAILURES_TOLD
        if failures == told or (error != before.error and failures > told):
            effect = "the last good ones stay in force" if before.keys else "its tokens are refused"
            log.warning("no new keys of %s: %s; %s", watched.source.issuer, error, effect)

    def _publish(self) -> None:
        status = {source: self._fixed[source.issuer] for source in self._sources if source.issuer in self._fixed}
        for source, watched in self._watched.items():
            schedule = watched.schedule
            stale = schedule.keys is not None and schedule.error is not None
            status[source] = JwksStatus(schedule.keys, schedule.fetched_at, schedule.error, stale)
        self.status.set(status)


async def follow_files(
    service: JwksService, files: Mapping[str, Path], every: timedelta = timedelta(seconds=1)
) -> None:
    """Hand ``service`` the new content of ``--jwks`` files (by issuer) as they change, until cancelled.

    What is no key set is logged and kept out: the last good content stays in force.
    """
    seen: dict[str, tuple[int, int, int] | None] = {}
    while True:
        for issuer, path in files.items():
            stamp = _stamp(path)
            if issuer in seen and seen[issuer] == stamp:
                continue
            seen[issuer] = stamp
            try:
                service.set_fixed(issuer, read_file(path))
            except JwksUnavailable as fault:
                log.warning("keys of %s: %s; the last good ones stay in force", issuer, fault)
                service.keep_fixed(issuer, str(fault))
        await asyncio.sleep(every.total_seconds())


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
