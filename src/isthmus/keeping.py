"""Writing to the state where a full disk, or one that somebody took away, must not end what runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from isthmus.errors import StateUnusable
from isthmus.state import StateDir


class Keeping:
    """Files of the state, for somebody who can go on without it.

    What cannot be written is held, read back from here, and tried again at every write and :meth:`retry`; what was
    written and has vanished is written anew. The fault is told once, and so is its end.
    """

    def __init__(self, state: StateDir, say: Callable[[str], None], aside: StateDir | None = None) -> None:
        """``aside``: another place, maybe of another disk, for what waits: whoever is started next reads it there."""
        self._state = state
        self._say = say
        self._aside = aside
        self._waiting: dict[str, bytes] = {}
        self._written: dict[str, bytes] = {}
        self._told = False

    def read(self, name: str) -> bytes | None:
        """As :meth:`StateDir.read`."""
        if name in self._waiting:
            return self._waiting[name]
        if (left := self._left_aside(name)) is not None:
            self._waiting[name] = left
            return left
        found = self._state.read(name)
        if found is not None:
            self._written[name] = found
        return found

    def write_private(self, name: str, data: bytes) -> None:
        """As :meth:`StateDir.write_private`, sooner or later."""
        self._waiting[name] = data
        self.retry()
        if name in self._waiting and self._aside is not None:
            with suppress(StateUnusable):
                self._aside.write_private(name, data)

    def retry(self) -> None:
        """Write what waits, and what somebody removed. Raises nothing."""
        for name, data in self._written.items():
            if not self._state.within(name).exists():
                self._waiting.setdefault(name, data)
        while self._waiting:
            name = next(iter(self._waiting))
            try:
                self._state.write_private(name, self._waiting[name])
            except StateUnusable as fault:
                if not self._told:
                    self._say(f"{fault}: what runs goes on, and the state is written when it can be")
                self._told = True
                return
            self._written[name] = self._waiting.pop(name)
            self._drop_aside(name)
        if self._told:
            self._say("the state is written again")
        self._told = False

    def _left_aside(self, name: str) -> bytes | None:
        if self._aside is not None:
            with suppress(StateUnusable):
                return self._aside.read(name)
        return None

    def _drop_aside(self, name: str) -> None:
        if self._aside is not None:
            with suppress(StateUnusable):
                self._aside.remove(name)
