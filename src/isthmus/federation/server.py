"""The service that keeps every federated trust domain's bundle fresh, each at its own pace, and says what it has."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from isthmus.errors import BundleUnavailable, StateUnusable
from isthmus.federation.fetch import BundleFetcher
from isthmus.federation.refresh import Schedule
from isthmus.federation.source import BundleSource
from isthmus.federation.store import BundleStore
from isthmus.latest import Latest
from isthmus.model.spiffe_bundle import SpiffeBundle, public_keys

log = logging.getLogger(__name__)

FETCHES: Final = "isthmus_federation_fetch_total"
"""The counter: by trust domain and by ``success`` or ``failure``."""
_LONGEST_SLEEP: Final = timedelta(seconds=30)
"""Then the clock is looked at again: a machine that slept wakes to what is long due."""


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """One trust domain's bundle as it stands. Without one its peers are refused, and ``error`` says why."""

    bundle: SpiffeBundle | None
    fetched_at: datetime | None
    error: str | None
    overdue: bool


@dataclass(slots=True, eq=False)
class _Watched:
    source: BundleSource
    schedule: Schedule
    said: str | None = None
    alarmed: bool = False


def _now() -> datetime:
    return datetime.now(UTC)


class FederationService:
    """Keeps :attr:`status` (by trust domain) true for the watched sources while :meth:`run` runs."""

    def __init__(
        self,
        fetcher: BundleFetcher,
        store: BundleStore,
        own_roots: Callable[[], tuple[str, ...]],
        *,
        clock: Callable[[], datetime] = _now,
        jitter: Callable[[], float] = random.random,
        counts: Counter[tuple[str, ...]] | None = None,
    ) -> None:
        """``own_roots``: PEM, of the mesh's own trust domain, which nobody else's bundle may hold."""
        self._fetcher = fetcher
        self._store = store
        self._own_roots = own_roots
        self._clock = clock
        self._jitter = jitter
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self._watched: dict[str, _Watched] = {}
        self._wanted: Latest[frozenset[_Watched]] = Latest(frozenset())
        self.status: Latest[Mapping[str, BundleStatus]] = Latest({})

    def watch(self, sources: frozenset[BundleSource]) -> None:
        """Keep these sources, one of each trust domain, and no others. What is known of them is in :attr:`status`."""
        wanted = {source.trust_domain: source for source in sources}
        kept = {name: one for name, one in self._watched.items() if wanted.get(name) == one.source}
        if kept.keys() == wanted.keys() == self._watched.keys():
            return
        self._watched = {name: kept.get(name) or self._begin(source) for name, source in sorted(wanted.items())}
        self._wanted.set(frozenset(self._watched.values()))
        self._publish()

    def _begin(self, source: BundleSource) -> _Watched:
        due = self._clock()
        stored = self._store.load(source)
        if stored is None:
            return _Watched(source, Schedule(due, source.anchor))
        return _Watched(source, Schedule(due, stored.bundle, stored.fetched_at))

    async def run(self) -> None:
        """Fetch until cancelled. One endpoint that is slow delays nobody else's."""
        running: dict[_Watched, asyncio.Task[None]] = {}
        try:
            async for wanted in self._wanted:
                for gone in running.keys() - wanted:
                    running.pop(gone).cancel()
                for watched in wanted - running.keys():
                    running[watched] = asyncio.create_task(self._follow(watched))
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _follow(self, watched: _Watched) -> None:
        while True:
            if wait := watched.schedule.wait(self._clock()):
                await asyncio.sleep(min(wait, _LONGEST_SLEEP).total_seconds())
                continue
            source = watched.source
            try:
                bundle = await self._fetcher.fetch(source, self._endpoint_roots(source))
                self._refuse_ours(bundle.roots)
                fresh = watched.schedule.succeeded(bundle, self._clock())
            except BundleUnavailable as fault:
                self._counts[FETCHES, source.trust_domain, "failure"] += 1
                self._failed(watched, str(fault))
            else:
                self._counts[FETCHES, source.trust_domain, "success"] += 1
                await self._succeeded(watched, fresh)

    def _endpoint_roots(self, source: BundleSource) -> tuple[str, ...]:
        """What vouches for an endpoint that shows an SVID: the bundle of its trust domain, of today."""
        whose = source.endpoint_trust_domain
        watched = self._watched.get(whose) if whose is not None else None
        held = watched.schedule.bundle if watched is not None else None
        return held.roots if held is not None else ()

    def _refuse_ours(self, roots: tuple[str, ...]) -> None:
        if not public_keys(roots).isdisjoint(public_keys(self._own_roots())):
            raise BundleUnavailable("it holds an authority of this mesh: it is not another trust domain's")

    async def _succeeded(self, watched: _Watched, fresh: Schedule) -> None:
        before, watched.schedule = watched.schedule, fresh
        name, bundle = watched.source.trust_domain, fresh.bundle
        assert bundle is not None, "it was just fetched"
        assert fresh.fetched_at is not None, "it was just fetched"
        if before.fetched_at is None or before.bundle is None or before.bundle.roots != bundle.roots:
            log.warning("federation: %s is trusted by %d root(s) of its bundle endpoint", name, len(bundle.roots))
        elif watched.said is not None:
            log.warning("federation: the bundle of %s is fresh again", name)
        watched.said, watched.alarmed = None, False
        self._publish()
        try:
            # Off the loop: a write that waits for the disk must hold up no proxy's stream.
            await asyncio.to_thread(self._store.save, watched.source, bundle, fresh.fetched_at)
        except StateUnusable as fault:
            log.error("federation: the bundle of %s is in force but not kept for the next start: %s", name, fault)

    def _failed(self, watched: _Watched, error: str) -> None:
        now = self._clock()
        watched.schedule = watched.schedule.failed(error, now, self._jitter())
        name, held = watched.source.trust_domain, watched.schedule.bundle
        effect = "the last good one stays in force" if held is not None else "its peers are refused"
        if error != watched.said:
            log.warning("federation: no new bundle of %s from %s: %s; %s", name, watched.source.url, error, effect)
            watched.said = error
        if watched.schedule.overdue(now) and not watched.alarmed:
            watched.alarmed = True
            log.error(
                "federation: ALARM: the bundle of %s could not be refreshed since %s: %s",
                name,
                _failing_since(watched.schedule),
                effect,
            )
        self._publish()

    def _publish(self) -> None:
        now = self._clock()
        self.status.set(
            {
                name: BundleStatus(
                    one.schedule.bundle, one.schedule.fetched_at, one.schedule.error, one.schedule.overdue(now)
                )
                for name, one in self._watched.items()
            }
        )


def _failing_since(schedule: Schedule) -> str:
    return f"{schedule.since:%Y-%m-%d %H:%M:%S}Z" if schedule.since is not None else "the start"
