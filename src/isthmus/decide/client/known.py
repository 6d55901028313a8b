"""Keys as they were last seen in the store, for as long as its change log says nothing else.

What is remembered is bounded, and unknown ids, which anybody can make up, have a place of their own: they cannot push
out those of real keys.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.errors import CredentialsUnavailable

POLL_SECONDS = 0.2
"""How often the change log is read."""
FRESH_SECONDS = 0.6
"""How old the last look at it may be when an answer is given from memory; then it is looked at first."""
_KNOWN = 200_000
_UNKNOWN = 20_000
_UNDER_WAY = 256


class KeySource(Protocol):
    """The store, asked without holding up others. Each raises CredentialsUnavailable."""

    async def find(self, key_id: str) -> KeyRecord | None: ...
    async def position(self) -> Position: ...
    async def changes(self, since: Position) -> Changes: ...


class KnownKeys:
    """``steady``: seconds that only grow."""

    def __init__(
        self, source: KeySource, steady: Callable[[], float], known: int = _KNOWN, unknown: int = _UNKNOWN
    ) -> None:
        self._source = source
        self._steady = steady
        self._known: OrderedDict[str, KeyRecord] = OrderedDict()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._most = (known, unknown)
        self._position: Position | None = None
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._under_way: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._generation = 0

    async def find(self, key_id: str) -> KeyRecord | None:
        """What the store says of a key, at most :data:`FRESH_SECONDS` ago. Raises CredentialsUnavailable."""
        if self._steady() - self._looked > FRESH_SECONDS:
            await self.look()
        known = self._known.get(key_id)
        if known is not None:
            self._known.move_to_end(key_id)
            return known
        if key_id in self._unknown:
            return None
        return await asyncio.shield(self._asked(key_id))

    async def look(self) -> None:
        """Read the change log; who asks for it at the same time waits for the same. Raises CredentialsUnavailable."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._has_looked)
        await asyncio.shield(self._looking)

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    async def _look(self) -> None:
        begun = self._steady()
        if self._position is None:
            self._position = await self._source.position()
        else:
            changes = await self._source.changes(self._position)
            self._forget(changes)
            self._position = changes.position
        self._looked = begun

    def _has_looked(self, done: asyncio.Task[None]) -> None:
        self._looking = None
        if not done.cancelled():
            done.exception()  # whoever waits for it is told; nobody need wait

    def _forget(self, changes: Changes) -> None:
        if changes.ids is None:
            self._known.clear()
            self._unknown.clear()
        else:
            for key_id in changes.ids:
                self._known.pop(key_id, None)
                self._unknown.pop(key_id, None)
        if changes.ids != frozenset():
            # What was asked for before may be what was so before: it is answered with, and not kept.
            self._generation += 1
            self._under_way.clear()

    def _asked(self, key_id: str) -> asyncio.Task[KeyRecord | None]:
        asked = self._under_way.get(key_id)
        if asked is None:
            if len(self._under_way) >= _UNDER_WAY:
                raise CredentialsUnavailable("too many keys are being looked up at once")
            asked = self._under_way[key_id] = asyncio.create_task(self._ask(key_id, self._generation))
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asked

    async def _ask(self, key_id: str, generation: int) -> KeyRecord | None:
        try:
            found = await self._source.find(key_id)
        finally:
            if generation == self._generation:
                self._under_way.pop(key_id, None)
        if generation == self._generation:
            self._keep(key_id, found)
        return found

    def _keep(self, key_id: str, found: KeyRecord | None) -> None:
        known, unknown = self._most
        if found is not None:
            self._known[key_id] = found
            if len(self._known) > known:
                self._known.popitem(last=False)
        else:
            self._unknown[key_id] = None
            if len(self._unknown) > unknown:
                self._unknown.popitem(last=False)
