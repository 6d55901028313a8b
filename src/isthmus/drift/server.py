"""The service that looks at every Envoy again and again, on every machine, and says what is not as declared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from isthmus.drift.compare import compare
from isthmus.drift.finding import Drift, Kind
from isthmus.drift.seen import Seen, Wanted
from isthmus.errors import EnvoyFailed
from isthmus.latest import Latest
from isthmus.model.offer import LOCAL_NODE

log = logging.getLogger(__name__)

_LONGEST_SHARE = 20
"""Of the time, looking takes at most one part in so many."""
_MACHINES = 16
"""Asked at the same time."""
_PATIENCE = 3
"""How many times as long as something takes to be certain is waited for what changes each time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, and how long something lasts until it is told."""

    every: timedelta = timedelta(seconds=10)
    again: timedelta = timedelta(seconds=2)
    """While something is suspected."""
    certain_after: timedelta = timedelta(seconds=8)
    """Longer than a change takes to reach an Envoy, and than one drains."""
    gone_after: timedelta = timedelta(seconds=30)
    """An Envoy that died is started anew, and says nothing meanwhile."""


SILENT = "its admin interface does not answer"
Look = Callable[[Wanted, str], Awaitable[Callable[[], Seen | None]]]
"""Asks the Envoy of a proxy what it is, and gives how to read the answer, which takes its time.

Reading gives None for what has the given digest: that of the last look. Both raise EnvoyFailed.
"""


@dataclass(slots=True)
class _Watched:
    """One proxy. ``suspected``: since when, by the clock of the loop."""

    seen: Seen | None = None
    suspected: dict[Drift, float] = field(default_factory=dict)
    certain: frozenset[Drift] = frozenset()
    silent_since: float | None = None
    compared: tuple[object, str] | None = None
    found: tuple[Drift, ...] = ()


class DriftService:
    """Keeps :attr:`found` true while :meth:`run` runs."""

    def __init__(self, wanted: Callable[[], Mapping[str, Wanted]], look: Look, pace: Pace | None = None) -> None:
        """``wanted``: by id, the proxies whose Envoy can be asked."""
        self._wanted = wanted
        self._look = look
        self._pace = pace or Pace()
        self._watched: dict[str, _Watched] = {}
        self._spent = 0.0
        """Seconds of this machine's that the round took: others' answers are only waited for."""
        self._hurry = asyncio.Event()
        self.found: Latest[tuple[Drift, ...]] = Latest(())
        self._begun = 0
        self.looks: Latest[int] = Latest(0)
        """The number of the last round that ended; a difference is certain after several."""

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self._begun += 1
            self._spent = 0.0
            await self._round(clock)
            self.looks.set(self._begun)
            suspicious = any(one.suspected.keys() - one.certain for one in self._watched.values())
            pause = self._pace.again if suspicious else self._pace.every
            rest = max(pause.total_seconds(), self._spent * _LONGEST_SHARE)
            try:
                async with asyncio.timeout(rest):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()

    async def fresh(self) -> tuple[Drift, ...]:
        """What is found now: after a look of now, and as many more as make certain what it saw."""
        clock = asyncio.get_running_loop().time
        # What is suspected is certain after a while, or gone; what is another thing each time is not waited for.
        until = clock() + _PATIENCE * (self._pace.certain_after + self._pace.again).total_seconds()
        version, first = self.looks.version, self._begun + 1
        while True:
            self._hurry.set()
            version, number = await self.looks.after(version)
            if number < first:
                continue
            if clock() > until or not any(one.suspected.keys() - one.certain for one in self._watched.values()):
                return self.found.value
            await asyncio.sleep(self._pace.again.total_seconds() / 2)

    async def _round(self, clock: Callable[[], float]) -> None:
        wanted = self._wanted()
        self._watched = {proxy: self._watched.get(proxy) or _Watched() for proxy in wanted}
        by_machine: dict[str, list[str]] = {}
        for proxy, one in wanted.items():
            by_machine.setdefault(one.machine, []).append(proxy)
        together = asyncio.Semaphore(_MACHINES)

        async def look_around(proxies: list[str]) -> None:
            # One that answers slowly, or not at all, does not keep the others waiting.
            async with together:
                for proxy in proxies:
                    await self._look_at(wanted[proxy], clock)

        await asyncio.gather(*map(look_around, by_machine.values()))
        self._tell()

    async def _look_at(self, before: Wanted, clock: Callable[[], float]) -> None:
        watched = self._watched[before.proxy]
        differences = await self._differences(before, watched, clock)
        after = self._wanted().get(before.proxy)
        # What was declared anew while somebody looked may be there already, or not yet.
        if differences is not None and after is not None and after.version == before.version:
            self._judge(watched, differences, clock())

    async def _differences(
        self, wanted: Wanted, watched: _Watched, clock: Callable[[], float]
    ) -> tuple[Drift, ...] | None:
        began = clock()
        try:
            read = await self._look(wanted, watched.seen.digest if watched.seen is not None else "")
            if wanted.machine != LOCAL_NODE:
                began = clock()
            # Off the loop: of a large mesh it takes a while.
            seen = await asyncio.to_thread(read)
        except EnvoyFailed as failed:
            since = watched.silent_since = watched.silent_since or clock()
            if clock() - since < self._pace.gone_after.total_seconds():
                return None
            why = SILENT if wanted.machine == LOCAL_NODE else str(failed)
            return (Drift(wanted.proxy, Kind.STATE, "server", why, wanted.machine),)
        watched.silent_since = None
        watched.seen = seen or watched.seen
        if watched.seen is None:
            return None
        asked = (wanted.version, wanted.settled, wanted.bootstrap.SerializeToString(deterministic=True))
        if watched.compared is None or watched.compared != (asked, watched.seen.digest):
            watched.found = await asyncio.to_thread(_compare, wanted, watched.seen)
            watched.compared = asked, watched.seen.digest
        self._spent += clock() - began
        return watched.found

    def _judge(self, watched: _Watched, differences: tuple[Drift, ...], now: float) -> None:
        watched.suspected = {one: watched.suspected.get(one, now) for one in differences}
        lasting = self._pace.certain_after.total_seconds()
        watched.certain = frozenset(one for one, since in watched.suspected.items() if now - since >= lasting)

    def _tell(self) -> None:
        before = frozenset(self.found.value)
        now = frozenset(one for watched in self._watched.values() for one in watched.certain)
        for one in sorted(now - before):
            log.error("ALARM: %s", one)
        for one in sorted(before - now):
            log.warning("mended: %s", one)
        self.found.set(tuple(sorted(now)))


def _compare(wanted: Wanted, seen: Seen) -> tuple[Drift, ...]:
    """As :func:`compare`. What another machine says may be anything, and must not end the service that watches it."""
    try:
        return compare(wanted, seen)
    except Exception as broken:
        if wanted.machine == LOCAL_NODE:
            raise
        why = f"what it says of itself cannot be compared: {type(broken).__name__}"
        return (Drift(wanted.proxy, Kind.STATE, "server", why, wanted.machine),)
