"""What becomes of failed handshakes: a line in the log, and in the end an address that is shut out.

A listener's settings are those of the first of its servers that has any: whom a client wants is not known where it is
shut out.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Protocol

from isthmus.control.control_plane import ControlPlane
from isthmus.handshake.back_off import BackOff, Ejection
from isthmus.handshake.failure import Failure, Sampler
from isthmus.model.handshake import FailedHandshakes
from isthmus.model.mesh import Mesh
from isthmus.model.world import PortKey

PACE = timedelta(seconds=1)
"""How often who is shut out may change: each change is a new listener for the proxy."""
KEPT_EVERY = timedelta(seconds=5)
FILE = "shut-out.json"
_GATEWAY_LISTENER = re.compile(r"gateway_(\d+)")


class PrivateFiles(Protocol):
    """The state directory, as far as the books need it."""

    def read(self, name: str) -> bytes | None: ...
    def write_private(self, name: str, data: bytes) -> None: ...


class Handshakes:
    """``heard`` takes every failure; :meth:`run` puts into force what follows from them."""

    def __init__(
        self,
        plane: ControlPlane,
        write: Callable[[bytes], None],
        clock: Callable[[], datetime],
        files: PrivateFiles,
        pace: timedelta = PACE,
    ) -> None:
        """``write``: appends a line to the log. ``files``: where the books are kept for the next control plane."""
        self._files = files
        self._kept: dict[PortKey, tuple[Ejection, ...]] = {}
        self._kept_at: datetime | None = None
        self._plane = plane
        self._write = write
        self._clock = clock
        self._pace = pace
        self._sampler = Sampler()
        self._books: dict[PortKey, BackOff] = {}

    def take_up(self) -> None:
        """What the last control plane left: whoever it shut out stays so. To be called when the manifests are there."""
        now, mesh = self._clock(), self._plane.mesh
        for place, kept in _read(self._files.read(FILE)).items():
            settings = settings_of(mesh, place)
            if settings is not None:
                self._books[place] = BackOff(settings)
                self._books[place].take_up(kept, now)
        self.settle()

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
        for place in tuple(self._books):
            settings = settings_of(mesh, place)
            if settings is None:
                del self._books[place]
            else:
                self._books[place].settings = settings
        found = {place: tuple(str(network) for network in book.shut_out(now)) for place, book in self._books.items()}
        shut_out = {place: networks for place, networks in sorted(found.items()) if networks}
        if shut_out != self._plane.inputs.shut_out:
            self._plane.inputs.shut_out = shut_out
            self._plane.changed()
        self._keep(now)

    def _keep(self, now: datetime) -> None:
        """Not every time: thousands of addresses may change each second."""
        if self._kept_at is not None and timedelta() <= now - self._kept_at < KEPT_EVERY:
            return
        kept = {place: found for place, book in self._books.items() if (found := book.kept())}
        if kept != self._kept:
            self._files.write_private(FILE, _written(kept))
            self._kept, self._kept_at = kept, now

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


def _written(kept: Mapping[PortKey, tuple[Ejection, ...]]) -> bytes:
    found = [
        {
            "proxy": place.proxy,
            "port": place.number,
            "shut_out": [[str(one.network), one.strikes, one.until.isoformat()] for one in ejections],
        }
        for place, ejections in kept.items()
    ]
    return json.dumps(found).encode()


def _read(data: bytes | None) -> dict[PortKey, tuple[Ejection, ...]]:
    """A file that cannot be understood shuts nobody out."""
    try:
        return {
            PortKey(one["proxy"], "gateway", int(one["port"])): tuple(
                Ejection(ip_network(network), int(strikes), datetime.fromisoformat(until))
                for network, strikes, until in one["shut_out"]
            )
            for one in json.loads(data or b"[]")
        }
    except (ValueError, TypeError, KeyError):
        return {}
