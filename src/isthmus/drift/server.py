"""The service that looks at every Envoy of this machine again and again, and says what is not as declared."""

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

log = logging.getLogger(__name__)

_LONGEST_SHARE = 20
"""Of the time, looking takes at most one part in so many."""
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


Look = Callable[[str], Awaitable["Seen | None"]]
"""What the Envoy of a proxy says of itself; None: the same as the last time. Raises EnvoyFailed."""


@dataclass(slots=True)
class _Watched:
    """One proxy. ``suspected``: since when, by the clock of the loop."""

    seen: Seen | None = None
    suspected: dict[Drift, float] = field(default_factory=dict)
    certain: frozenset[Drift] = frozenset()
    silent_since: float | None = None
    compared: tuple[object, Seen] | None = None
    found: tuple[Drift, ...] = ()


class DriftService:
    """Keeps :attr:`found` true while :meth:`run` runs."""

    def __init__(self, wanted: Callable[[], Mapping[str, Wanted]], look: Look, pace: Pace | None = None) -> None:
        """``wanted``: by id, the proxies whose Envoy runs on this machine."""
        self._wanted = wanted
        self._look = look
        self._pace = pace or Pace()
        self._watched: dict[str, _Watched] = {}
        self._hurry = asyncio.Event()
        self.found: Latest[tuple[Drift, ...]] = Latest(())
        self._begun = 0
        self.looks: Latest[int] = Latest(0)
        """The number of the last round that ended; a difference is certain after several."""

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            self._begun += 1
            await self._round(clock)
            self.looks.set(self._begun)
            suspicious = any(one.suspected.keys() - one.certain for one in self._watched.values())
            pause = self._pace.again if suspicious else self._pace.every
            rest = max(pause.total_seconds(), (clock() - began) * _LONGEST_SHARE)
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
        for proxy, watched in self._watched.items():
            before = wanted[proxy]
            differences = await self._differences(before, watched, clock)
            after = self._wanted().get(proxy)
            # What was declared anew while somebody looked may be there already, or not yet.
            if differences is not None and after is not None and after.version == before.version:
                self._judge(watched, differences, clock())
        self._tell()

    async def _differences(
        self, wanted: Wanted, watched: _Watched, clock: Callable[[], float]
    ) -> tuple[Drift, ...] | None:
        try:
            seen = await self._look(wanted.proxy)
        except EnvoyFailed:
            since = watched.silent_since = watched.silent_since or clock()
            if clock() - since < self._pace.gone_after.total_seconds():
                return None
            return (Drift(wanted.proxy, Kind.STATE, "server", "its admin interface does not answer"),)
        watched.silent_since = None
        if seen is not None:
            watched.seen = seen
        if watched.seen is None:
            return None
        asked = ((wanted.version, wanted.settled, wanted.bootstrap.SerializeToString(deterministic=True)), watched.seen)
        if watched.compared is None or watched.compared[0] != asked[0] or watched.compared[1] is not asked[1]:
            # Off the loop: of a large mesh it takes a while.
            watched.found = await asyncio.to_thread(compare, wanted, watched.seen)
            watched.compared = asked
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
