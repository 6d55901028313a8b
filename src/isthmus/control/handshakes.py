"""What becomes of failed handshakes: a line in the log, and in the end an address that is shut out.

A listener's settings are those of the first of its servers that has any: whom a client wants is not known where it is
shut out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime, timedelta

from isthmus.control.control_plane import ControlPlane
from isthmus.handshake.back_off import BackOff
from isthmus.handshake.failure import Failure, Sampler
from isthmus.model.handshake import FailedHandshakes
from isthmus.model.mesh import Mesh
from isthmus.model.world import PortKey

PACE = timedelta(seconds=1)
"""How often who is shut out may change: each change is a new listener for the proxy."""
_GATEWAY_LISTENER = re.compile(r"gateway_(\d+)")


class Handshakes:
    """``heard`` takes every failure; :meth:`run` puts into force what follows from them."""

    def __init__(
        self, plane: ControlPlane, write: Callable[[bytes], None], clock: Callable[[], datetime], pace: timedelta = PACE
    ) -> None:
        """``write``: appends a line to the log."""
        self._plane = plane
        self._write = write
        self._clock = clock
        self._pace = pace
        self._sampler = Sampler()
        self._books: dict[PortKey, BackOff] = {}

    def heard(self, failure: Failure) -> None:
        now = self._clock()
        suppressed = self._sampler.take(failure.peer_address, now)
        if suppressed is not None:
            self._write(failure.line(suppressed))
        place = place_of(failure)
        book = self._book(place) if place is not None and failure.held_against else None
        if book is not None:
            book.failed(failure.peer_address, now)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.settle()
            await asyncio.sleep(self._pace.total_seconds())

    def settle(self) -> None:
        """Who is shut out now, and who is let in again."""
        now, mesh = self._clock(), self._plane.mesh
        for place in [place for place in self._books if settings_of(mesh, place) is None]:
            del self._books[place]
        found = {place: tuple(str(network) for network in book.shut_out(now)) for place, book in self._books.items()}
        shut_out = {place: networks for place, networks in sorted(found.items()) if networks}
        if shut_out != self._plane.inputs.shut_out:
            self._plane.inputs.shut_out = shut_out
            self._plane.changed()

    def _book(self, place: PortKey) -> BackOff | None:
        settings = settings_of(self._plane.mesh, place)
        if settings is None:
            return None
        book = self._books.setdefault(place, BackOff(settings))
        book.settings = settings
        return book


def place_of(failure: Failure) -> PortKey | None:
    """The gateway's port that it is about; None: of a sidecar, whose callers are the mesh's own."""
    named = _GATEWAY_LISTENER.fullmatch(failure.listener)
    return PortKey(failure.proxy, "gateway", int(named[1])) if named is not None else None


def settings_of(mesh: Mesh, place: PortKey) -> FailedHandshakes | None:
    """None: nobody is shut out there."""
    proxy = mesh.proxies_by_id.get(place.proxy)
    if proxy is None:
        return None
    servers = (server for gateway in mesh.gateways_of(proxy) for server in gateway.servers)
    said = (one.client_traffic.failed_handshakes for one in servers if one.port == place.number and one.tls is not None)
    return next((found for found in said if found is not None), None)
