"""Which addresses are shut out for handshakes that keep failing: a pure book with a clock from outside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from isthmus.model.handshake import FailedHandshakes, Network

MOST_ADDRESSES = 4096
"""Of one listener: those that failed last are known, the others forgotten."""
_IPV6_PREFIX = 64
"""What one IPv6 customer has: it may change its address within as it likes."""


@dataclass(slots=True)
class _Record:
    level: float
    """Failures that count still: they leak away, ``threshold`` of them in an ``interval``."""
    at: datetime
    strikes: int = 0
    until: datetime | None = None
    """Shut out until then."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """A network that was shut out ``strikes`` times, the last time ``until`` then."""

    network: Network
    strikes: int
    until: datetime


class BackOff:
    """Of one listener. Not for several threads."""

    def __init__(self, settings: FailedHandshakes, most: int = MOST_ADDRESSES) -> None:
        self.settings = settings
        self._most = most
        self._records: OrderedDict[Network, _Record] = OrderedDict()

    def failed(self, address: str, now: datetime) -> bool:
        """A handshake from ``address`` failed; True if that shuts the address out. Raises ValueError: no IP address."""
        network = network_of(address)
        if self._exempt(address):
            return False
        record = self._records.setdefault(network, _Record(0.0, now))
        self._records.move_to_end(network)
        self._trim(now)
        settings = self.settings
        leaked = settings.threshold * ((now - record.at) / settings.interval)
        record.level = max(0.0, record.level - leaked) + 1.0
        record.at = now
        if _is_shut(record, now):
            # What was under way when the address was shut out.
            return False
        if self._forgiven(record, now):
            record.strikes, record.until = 0, None
        # Some leaks away while it is counted.
        if record.level <= settings.threshold - 1:
            return False
        record.until = now + self.ejection(record.strikes)
        record.strikes += 1
        record.level = 0.0
        return True

    def ejection(self, strikes: int) -> timedelta:
        """How long an address is shut out that was so ``strikes`` times before."""
        settings = self.settings
        doubled = settings.base_ejection.total_seconds() * 2.0 ** min(strikes, 62)
        return timedelta(seconds=min(doubled, settings.max_ejection.total_seconds()))

    def shut_out(self, now: datetime) -> tuple[Network, ...]:
        """In order of their addresses; nobody who is exempt by now."""
        shut = (network for network, record in self._records.items() if _is_shut(record, now))
        found = [network for network in shut if not self._is_free(network)]
        return tuple(sorted(found, key=lambda one: (one.version, one.network_address.packed)))

    def kept(self) -> tuple[Ejection, ...]:
        """Who was shut out, for another book that goes on; what merely failed is let go."""
        records = self._records.items()
        return tuple(Ejection(network, one.strikes, one.until) for network, one in records if one.until is not None)

    def take_up(self, kept: Iterable[Ejection], now: datetime) -> None:
        """Go on with what :meth:`kept` gave, as far as it counts still."""
        for one in kept:
            # By the clock of another life: never for longer than it could be now.
            until = min(one.until, now + self.ejection(one.strikes - 1))
            record = _Record(0.0, now, one.strikes, until)
            if not self._forgiven(record, now):
                self._records[one.network] = record
        self._trim(now)

    def _exempt(self, address: str) -> bool:
        found = _plain(address)
        return any(found.version == network.version and found in network for network in self.settings.exempt)

    def _is_free(self, network: Network) -> bool:
        """Whether all of ``network`` is exempt."""
        first, last = network[0], network[-1]
        return any(first in exempt and last in exempt for exempt in self.settings.exempt)

    def _forgiven(self, record: _Record, now: datetime) -> bool:
        """An address that was good for as long as it was last shut out (and an interval) begins anew."""
        if record.until is None:
            return False
        quiet = max(self.ejection(record.strikes - 1), self.settings.interval)
        return now - record.until > 2 * quiet

    def _trim(self, now: datetime) -> None:
        """Forget who failed longest ago; who is shut out only if all are."""
        while len(self._records) > self._most:
            free = (network for network, record in self._records.items() if not _is_shut(record, now))
            del self._records[next(free, next(iter(self._records)))]


def _is_shut(record: _Record, now: datetime) -> bool:
    return record.until is not None and now < record.until


def _plain(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped if mapped is not None else found


def network_of(address: str) -> Network:
    """What is shut out for ``address``: an IPv4 address, or an IPv6 network of 64 bits. Raises ValueError."""
    found = _plain(address)
    if isinstance(found, IPv4Address):
        return IPv4Network(found)
    return IPv6Network((found, _IPV6_PREFIX), strict=False)
