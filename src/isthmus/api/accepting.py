"""Taking TLS connections in, with bounds before anybody is known: of one address, in all, and for the handshake.

``asyncio`` takes whatever comes, and waits a minute for each handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Network, ip_address

_HANDSHAKE = timedelta(seconds=5)
_MOST = 1024
_MOST_OF_ONE = 256
"""Of one IPv4 address, or one IPv6 network of 64 bits: machines behind one NAT join at once."""
_IPV6_PREFIX = 64
_BACKLOG = 1024
_WITHOUT_DESCRIPTORS = timedelta(milliseconds=100)
_log = logging.getLogger(__name__)

Protocol = Callable[[Callable[[], None]], asyncio.Protocol]
"""Makes the protocol of one connection; it calls what it is given when the connection is lost."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there are at once, and how long each may take for its handshake."""

    most: int = _MOST
    most_of_one: int = _MOST_OF_ONE
    handshake: timedelta = _HANDSHAKE


class Accepting:
    """One listening socket. Where there is no room for one more, one of the network that has most makes it.

    Of these the handshake that began first, else the connection that came first, for a finished handshake costs a flood
    nothing. An honest client needs some milliseconds: those that are dropped so are not its.
    """

    def __init__(self, context: ssl.SSLContext, protocol: Protocol, bounds: Bounds | None = None) -> None:
        self._context = context
        self._protocol = protocol
        self._bounds = bounds if bounds is not None else Bounds()
        self._of: Counter[str] = Counter()
        self._places: dict[_Place, None] = {}
        """In the order in which they came."""

    async def run(self, listening: socket.socket) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        try:
            while True:
                try:
                    accepted, peer = await loop.sock_accept(listening)
                except OSError as failed:
                    # No descriptors left, or the peer is gone already.
                    _log.warning("a connection cannot be taken: %s", failed.strerror)
                    await asyncio.sleep(_WITHOUT_DESCRIPTORS.total_seconds())
                    continue
                self._take(accepted, _network(peer[0]))
                # What waits already is had without waiting: nobody else would have a turn before the last of a flood.
                await asyncio.sleep(0)
        finally:
            for place in [one for one in self._places if one.transport is None]:
                place.end()

    def _take(self, accepted: socket.socket, network: str) -> None:
        if self._of[network] >= self._bounds.most_of_one:
            self._make_room(network)
        elif self._of.total() >= self._bounds.most:
            self._make_room(max(self._of, key=lambda one: self._of[one]))
        place = _Place(network, self._left)
        self._of[network] += 1
        self._places[place] = None
        place.shaking = asyncio.create_task(self._shake(accepted, place))

    def _make_room(self, network: str) -> None:
        theirs = [place for place in self._places if place.network == network]
        next((place for place in theirs if place.transport is None), theirs[0]).end()

    def _left(self, place: _Place) -> None:
        del self._places[place]
        self._of[place.network] -= 1
        if not self._of[place.network]:
            del self._of[place.network]

    async def _shake(self, accepted: socket.socket, place: _Place) -> None:
        try:
            place.transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol(place.leave),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._bounds.handshake.total_seconds(),
            )
        except OSError:
            # A handshake that failed, or took too long.
            place.leave()
        except BaseException:
            place.leave()
            raise


@dataclass(eq=False, slots=True)
class _Place:
    """Of one connection, until it leaves."""

    network: str
    left: Callable[[_Place], None]
    shaking: asyncio.Task[None] | None = None
    transport: asyncio.BaseTransport | None = None
    """Once the handshake is done."""
    gone: bool = False

    def leave(self) -> None:
        if not self.gone:
            self.gone = True
            self.left(self)

    def end(self) -> None:
        """Its place is free now, and not when the connection comes to its end."""
        self.leave()
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        elif self.shaking is not None:
            self.shaking.cancel()


def _network(address: str) -> str:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((found, _IPV6_PREFIX), strict=False))
