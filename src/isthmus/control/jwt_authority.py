"""The keys for JWT-SVIDs of a running control plane: made, kept, replaced in time, told to every node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from isthmus.control.last_good import PrivateFiles
from isthmus.identity.jwt_keys import JwtKeys
from isthmus.identity.jwt_store import FILE, encoded
from isthmus.latest import Latest

_CHECK = timedelta(minutes=10)


class JwtAuthority:
    """Holds what signs now, and next, in :attr:`latest`."""

    def __init__(self, keys: JwtKeys, files: PrivateFiles, clock: Callable[[], datetime]) -> None:
        """``keys``: of an earlier life."""
        self._files = files
        self._clock = clock
        # Read by way of what writes it, which then puts it back where somebody removes it.
        files.read(FILE)
        self.latest = Latest(keys)
        self._advance()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_CHECK.total_seconds())
            self._advance()

    def _advance(self) -> None:
        advanced = self.latest.value.advanced(self._clock())
        if self.latest.set(advanced):
            self._files.write_private(FILE, encoded(advanced))
