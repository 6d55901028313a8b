"""The service that keeps every policy's bundle fresh, each at its own pace, and says which is in force."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from isthmus.decide.rego.activation import Activation, Wish
from isthmus.decide.rego.bundle import Bundle, read_bundle
from isthmus.decide.rego.fetch import BundleFetcher
from isthmus.decide.rego.source import Policy
from isthmus.decide.rego.store import BundleStore
from isthmus.errors import RegoBundleRefused, StateUnusable
from isthmus.latest import Latest
from isthmus.model.rego_bundle import ActiveBundle, BundleSource

log = logging.getLogger(__name__)

FETCHES: Final = "isthmus_rego_bundle_fetches_total"
"""The counter: by policy and by ``success``, ``unchanged``, ``refused`` or ``failure``."""
_PAUSE: Final = timedelta(seconds=1)
"""Between two questions to a server that holds them: no more than that, should it not hold them after all."""
_LONGEST_SLEEP: Final = timedelta(seconds=30)
"""Then the clock is looked at again: a machine that slept wakes to what is long due."""

Examine = Callable[[Policy, str], Awaitable[str | None]]
"""What keeps the engine from compiling a policy, of which the rule at a path will be asked for."""


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """As of :class:`Activation`."""

    wish: Wish
    active: ActiveBundle | None
    since: datetime | None
    error: str | None
    refused: bool


@dataclass(slots=True, eq=False)
class _Watched:
    wish: Wish
    activation: Activation
    said: str | None = None
    replaced: list[str] = field(default_factory=list)


class BundleService:
    """Keeps :attr:`status` (by policy) true for what is wished while :meth:`run` runs. A slow server delays nobody."""

    def __init__(
        self,
        fetcher: BundleFetcher,
        store: BundleStore,
        examine: Examine,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        counts: Counter[tuple[str, ...]] | None = None,
    ) -> None:
        """``jitter``: from 0 to 1."""
        self._fetcher = fetcher
        self._store = store
        self._examine = examine
        self._clock = clock
        self._jitter = jitter
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self._watched: dict[str, _Watched] = {}
        self._coming: set[str] = set()
        """Digests of bundles that are being kept and not in force yet."""
        self._wanted: Latest[frozenset[_Watched]] = Latest(frozenset())
        self.status: Latest[Mapping[str, BundleStatus]] = Latest({})

    def watch(self, wishes: frozenset[Wish]) -> None:
        """Keep these, one of each policy, and no others. What an earlier run left is in :attr:`status` on return."""
        wanted = {wish.policy: wish for wish in wishes}
        kept = {name: one for name, one in self._watched.items() if wanted.get(name) == one.wish}
        if kept.keys() == wanted.keys() == self._watched.keys():
            return
        self._watched = {name: kept.get(name) or self._begin(wish) for name, wish in sorted(wanted.items())}
        self._wanted.set(frozenset(self._watched.values()))
        self._publish()

    def _begin(self, wish: Wish) -> _Watched:
        known = self._watched.get(wish.policy)
        stored = self._store.load(wish) if not wish.problem else None
        if stored is None:
            return _Watched(wish, Activation(self._clock(), error=wish.problem or Activation(self._clock()).error))
        since = known.activation.since if known is not None else None
        return _Watched(wish, Activation(self._clock(), stored.active, stored.tag, since))

    async def run(self) -> None:
        """Fetch until cancelled."""
        running: dict[_Watched, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            async for wanted in self._wanted:
                for watched in running.keys() - wanted:
                    running.pop(watched).cancel()
                for watched in wanted - running.keys():
                    running[watched] = tasks.create_task(self._keep(watched))

    async def _keep(self, watched: _Watched) -> None:
        if watched.wish.problem:
            return
        await self._examine_stored(watched)
        while True:
            if wait := watched.activation.wait(self._clock(), watched.wish.source):
                await asyncio.sleep(min(wait, _LONGEST_SLEEP).total_seconds())
                continue
            await self._look(watched)

    async def _examine_stored(self, watched: _Watched) -> None:
        """What was good for another rule, or another version of the engine, need not be for this one."""
        active = watched.activation.active
        if active is None:
            return
        try:
            bundle = await asyncio.to_thread(self._store.bundle, active.digest)
            problem = await self._compilable(watched.wish, bundle)
        except (RegoBundleRefused, StateUnusable) as fault:
            problem = str(fault)
        if problem is not None:
            self._set(watched, replace(watched.activation, active=None, tag=None, error=problem, refused=True))

    async def _look(self, watched: _Watched) -> None:
        wish, before = watched.wish, watched.activation
        try:
            fetched = await self._fetcher.fetch(wish.source, wish.token, before.tag)
        except RegoBundleRefused as fault:
            self._count(wish, "failure")
            self._set(watched, before.failed(str(fault), self._clock(), wish.source, self._jitter()))
            return
        if fetched.packed is None and before.active is not None and not self._store.has(before.active.digest):
            # Somebody took it away: it is fetched again, for those who start and look for it.
            self._set(watched, replace(before, tag=None))
            return
        source = _paced(wish.source) if fetched.holds else wish.source
        if fetched.packed is None:
            self._count(wish, "unchanged")
            self._set(watched, before.unchanged(self._clock(), source, self._jitter()))
            return
        try:
            found = await self._take(watched, fetched.packed, fetched.tag)
        except RegoBundleRefused as refused:
            self._count(wish, "refused")
            self._set(watched, before.rejected(str(refused), fetched.tag, self._clock(), source, self._jitter()))
        except StateUnusable as fault:
            self._count(wish, "failure")
            why = f"it cannot be kept, and so not be given to who decides: {fault}"
            self._set(watched, before.failed(why, self._clock(), wish.source, self._jitter()))
        else:
            self._count(wish, "success")
            self._set(watched, before.activated(found, fetched.tag, self._clock(), source, self._jitter()))
            self._coming.discard(found.digest)
            self._prune(watched, before.active)

    async def _take(self, watched: _Watched, packed: bytes, tag: str | None) -> ActiveBundle:
        """Believe, compile and keep it. Raises RegoBundleRefused, StateUnusable."""
        active = watched.activation.active
        if active is not None and sha256(packed).hexdigest() == active.digest:
            await asyncio.to_thread(self._store.save, watched.wish, packed, tag)
            return active
        bundle = await asyncio.to_thread(read_bundle, packed, watched.wish.verifier)
        problem = await self._compilable(watched.wish, bundle)
        if problem is not None:
            raise RegoBundleRefused(problem)
        self._coming.add(sha256(packed).hexdigest())
        digest = await asyncio.to_thread(self._store.save, watched.wish, packed, tag)
        return ActiveBundle(digest, bundle.revision)

    async def _compilable(self, wish: Wish, bundle: Bundle) -> str | None:
        return await self._examine(bundle.policy(wish.policy, wish.policy), wish.path)

    def _prune(self, watched: _Watched, before: ActiveBundle | None) -> None:
        """The one before stays as well: another machine, or a process that starts just now, may be about to read it."""
        watched.replaced = watched.replaced[-1:] if before is None else [before.digest]
        active = [one.activation.active.digest for one in self._watched.values() if one.activation.active is not None]
        self._store.prune(
            {*active, *self._coming, *(digest for one in self._watched.values() for digest in one.replaced)}
        )

    def _count(self, wish: Wish, result: str) -> None:
        self._counts[FETCHES, wish.policy, result] += 1

    def _set(self, watched: _Watched, now: Activation) -> None:
        before, watched.activation = watched.activation, now
        if now.active is not None and (before.active is None or now.active.digest != before.active.digest):
            log.info("RegoPolicy %s: bundle %s in force", watched.wish.policy, now.active.revision or now.active.digest)
        if now.error != watched.said:
            watched.said = now.error
            if now.error is not None:
                effect = "the last good one stays in force" if now.active is not None else "there is none yet: denied"
                log.warning(
                    "RegoPolicy %s: bundle %s: %s; %s",
                    watched.wish.policy,
                    watched.wish.source.location,
                    now.error,
                    effect,
                )
        self._publish()

    def _publish(self) -> None:
        self.status.set({name: _status(one) for name, one in self._watched.items()})


def _paced(source: BundleSource) -> BundleSource:
    """One that is asked again at once, but for a moment."""
    return replace(source, shortest=min(_PAUSE, source.shortest), longest=min(_PAUSE, source.longest))


def _status(watched: _Watched) -> BundleStatus:
    known = watched.activation
    return BundleStatus(watched.wish, known.active, known.since, known.error, known.refused)
