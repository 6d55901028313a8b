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
    """One listening socket. Where there is no room for one more, the one that has been silent for longest makes it.

    A handshake takes an honest client some milliseconds: those that are dropped so are not its.
    """

    def __init__(self, context: ssl.SSLContext, protocol: Protocol, bounds: Bounds | None = None) -> None:
        self._context = context
        self._protocol = protocol
        self._bounds = bounds if bounds is not None else Bounds()
        self._of: Counter[str] = Counter()
        self._shaking: dict[asyncio.Task[None], _Place] = {}
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
        finally:
            for task in self._shaking:
                task.cancel()

    def _take(self, accepted: socket.socket, network: str) -> None:
        crowded = self._of[network] >= self._bounds.most_of_one
        if (crowded or self._of.total() >= self._bounds.most) and not self._make_room(network if crowded else None):
            accepted.close()
            return
        place = _Place(self._of, network)
        task = asyncio.create_task(self._shake(accepted, place))
        self._shaking[task] = place
        task.add_done_callback(lambda done: self._shaking.pop(done, None))

    def _make_room(self, network: str | None) -> bool:
        """Drop the handshake that began first, of ``network`` or of anybody; False: there is none."""
        for task, place in self._shaking.items():
            if network in (None, place.network):
                # Its place is free now, and not when the task comes to its end.
                place.leave()
                del self._shaking[task]
                task.cancel()
                return True
        return False

    async def _shake(self, accepted: socket.socket, place: _Place) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
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


class _Place:
    """Of one connection, until it leaves."""

    def __init__(self, of: Counter[str], network: str) -> None:
        self.network = network
        self._of = of
        self._left = False
        of[network] += 1

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._of[self.network] -= 1
            if not self._of[self.network]:
                del self._of[self.network]


def _network(address: str) -> str:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((found, _IPV6_PREFIX), strict=False))
