"""Keys as they were last seen in the store, for as long as its change log says nothing else.

What is remembered is bounded, and unknown ids, which anybody can make up, have a place of their own: they cannot push
out those of real keys.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.errors import CredentialsOutOfReach, CredentialsUnavailable

POLL_SECONDS = 0.2
"""How often the change log is read."""
FRESH_SECONDS = 0.6
"""How old the last look at it may be when an answer is given from memory; then it is looked at first."""
AWAY_SECONDS = 300.0
"""How long keys in memory are believed without contact to a control plane that would tell of their end."""
_KNOWN = 200_000
_UNKNOWN = 20_000
_UNDER_WAY = 256


class KeySource(Protocol):
    """The store, asked without holding up others.

    Each raises CredentialsUnavailable; CredentialsOutOfReach where it is another machine's, which does not answer: then
    what is in memory is believed for :data:`AWAY_SECONDS`.
    """

    async def find(self, key_id: str) -> KeyRecord | None: ...
    async def position(self) -> Position: ...
    async def changes(self, since: Position) -> Changes: ...


class KnownKeys:
    """``steady``: seconds that only grow. ``named``: how the source's changes name an id."""

    def __init__(
        self,
        source: KeySource,
        steady: Callable[[], float],
        known: int = _KNOWN,
        unknown: int = _UNKNOWN,
        named: Callable[[str], str] = str,
    ) -> None:
        self._named = named
        self._source = source
        self._steady = steady
        self._known: OrderedDict[str, KeyRecord] = OrderedDict()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._most = (known, unknown)
        self._position: Position | None = None
        self._looked = float("-inf")
        self._contact = float("-inf")
        """When the source answered last; never, once it has refused to."""
        self._away = False
        self._looking: asyncio.Task[None] | None = None
        self._under_way: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._waiting = 0
        self._left: asyncio.Event | None = None
        self._generation = 0

    async def find(self, key_id: str) -> KeyRecord | None:
        """What the store says of a key, at most :data:`FRESH_SECONDS` ago. Raises CredentialsUnavailable."""
        self._waiting += 1
        try:
            return await self._find(key_id)
        finally:
            self._done_waiting()

    async def _find(self, key_id: str) -> KeyRecord | None:
        name = self._named(key_id)
        if self._steady() - self._looked > FRESH_SECONDS and not self._away:
            with suppress(CredentialsOutOfReach):
                await self.look()
        if self._away:
            self._check_contact()
        known = self._known.get(name)
        if known is not None:
            self._known.move_to_end(name)
            return known
        if self._away:
            raise CredentialsOutOfReach("not in memory, and nobody can be asked")
        if name in self._unknown:
            return None
        return await asyncio.shield(self._asked(key_id))

    async def look(self) -> None:
        """Read the change log; who asks for it at the same time waits for the same. Raises CredentialsUnavailable."""
        self._waiting += 1
        try:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(self._has_looked)
            await asyncio.shield(self._looking)
        finally:
            self._done_waiting()

    async def unused(self) -> None:
        """Until nobody waits for an answer: then the source may be closed. For when nobody asks any more."""
        if self._waiting:
            self._left = asyncio.Event()
            await self._left.wait()

    def _done_waiting(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._left is not None:
            self._left.set()

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    async def _look(self) -> None:
        begun = self._steady()
        try:
            if self._position is None:
                self._position = await self._source.position()
            else:
                changes = await self._source.changes(self._position)
                self._forget(changes)
                self._position = changes.position
        except CredentialsOutOfReach:
            self._away = True
            raise
        except CredentialsUnavailable:
            self._contact, self._away = float("-inf"), False
            raise
        self._looked = self._contact = begun
        self._away = False

    def _check_contact(self) -> None:
        if self._steady() - self._contact > AWAY_SECONDS:
            raise CredentialsOutOfReach(f"without contact for {AWAY_SECONDS:.0f} s")

    def _has_looked(self, done: asyncio.Task[None]) -> None:
        self._looking = None
        if not done.cancelled():
            done.exception()  # whoever waits for it is told; nobody need wait

    def _forget(self, changes: Changes) -> None:
        if changes.ids is None:
            self._known.clear()
            self._unknown.clear()
        else:
            for name in changes.ids:
                self._known.pop(name, None)
                self._unknown.pop(name, None)
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
            self._keep(self._named(key_id), found)
        return found

    def _keep(self, name: str, found: KeyRecord | None) -> None:
        known, unknown = self._most
        if found is not None:
            self._known[name] = found
            if len(self._known) > known:
                self._known.popitem(last=False)
        else:
            self._unknown[name] = None
            if len(self._unknown) > unknown:
                self._unknown.popitem(last=False)
