"""What the connected proxies say: places that could not be opened, and when what left the mesh may go."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from isthmus.ads.status import Statuses
from isthmus.control.control_plane import ControlPlane
from isthmus.control.refusals import ports_refused
from isthmus.control.transition import Transition, opened

_LOOK_SECONDS = 0.02
_PROGRAM_SECONDS = 0.1
_FAREWELL_LOOKS = 500
"""A proxy that left the mesh waits ten seconds at most for callers that do not answer."""
_LAST_REQUESTS = 0.25


class Proxies:
    """Follows the proxies' confirmations."""

    def __init__(self, plane: ControlPlane, statuses: Statuses, transition: Transition) -> None:
        self._plane = plane
        self._statuses = statuses
        self._transition = transition

    async def follow(self) -> None:
        """Ask for another port where an Envoy could not open the one it was given; learn what was opened."""
        version, plane = -1, self._plane
        while True:
            with suppress(TimeoutError):
                # Programs say nothing of theirs here: while some start, somebody has to look.
                async with asyncio.timeout(_PROGRAM_SECONDS if plane.world.starting else None):
                    version = await self._statuses.after(version)
            statuses = self._statuses.all()
            taken = ports_refused(statuses, plane.world.addresses)
            starting = [key for key in plane.world.starting if key.proxy not in plane.silent]
            found = opened(starting, statuses, plane.snapshots)
            if taken or found:
                plane.inputs.taken |= taken
                plane.inputs.opened |= found
                plane.changed()
            # A thousand proxies confirm one by one: they are looked at together.
            await asyncio.sleep(_LOOK_SECONDS)

    async def see_off(self) -> None:
        """What the mesh no longer has goes when every caller knows that it is gone, or after a while."""
        async for turn in self._transition.turns:
            for _ in range(_FAREWELL_LOOKS):
                if self._settled():
                    break
                await asyncio.sleep(_LOOK_SECONDS)
            # Envoy confirms on its main thread; its workers hear a moment later.
            await asyncio.sleep(_LAST_REQUESTS)
            self._plane.see_off(turn)

    def _settled(self) -> bool:
        """Whether every connected proxy has what it should have, and every listening place is open."""
        plane = self._plane
        return not plane.world.starting and all(
            status.in_sync and status.snapshot_version == plane.snapshot(status.proxy_id).value.version
            for status in self._statuses.all()
        )
