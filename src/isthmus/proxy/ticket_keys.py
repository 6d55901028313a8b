"""Keys that a gateway's TLS sessions are sealed with (RFC 5077; RFC 8446, section 4.6.1): no IO, no clock.

Whoever has a key can read every session that it sealed, so a key is made here, is in memory alone, and does not stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, tls_v3
from isthmus.proxy.sds_stream import ServedSecret

TURN = timedelta(hours=1)
"""How long a key seals new sessions."""
_KEPT = 3
"""The key that seals, and those before it, which still open."""
_KEY_BYTES = 80
"""A name of 16 bytes, 32 for HMAC, 32 for AES (Envoy's TlsSessionTicketKeys)."""
_NAME_BYTES = 16

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class TicketKeys:
    """``keys``: the one that seals first. ``since``: when it began."""

    keys: tuple[bytes, ...] = field(repr=False)
    since: datetime

    @classmethod
    def first(cls, now: datetime, random_bytes: RandomBytes) -> TicketKeys:
        return cls((random_bytes(_KEY_BYTES),), now)

    def turned(self, now: datetime, random_bytes: RandomBytes) -> TicketKeys:
        """The same until its turn is over; a clock that was set back ends it, too."""
        if self.since <= now < self.since + TURN:
            return self
        return TicketKeys((random_bytes(_KEY_BYTES), *self.keys)[:_KEPT], now)

    def secret(self, name: str) -> ServedSecret:
        """Its version is the keys' names, which every session tells anyway."""
        keys = [core_v3.DataSource(inline_bytes=key) for key in self.keys]
        secret = tls_v3.Secret(name=name, session_ticket_keys=tls_v3.TlsSessionTicketKeys(keys=keys))
        return ServedSecret(name, "-".join(key[:_NAME_BYTES].hex()[:8] for key in self.keys), any_of(secret))
