"""What was fetched and believed: a list or an answer, with the time it speaks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far ahead another machine's clock may be."""


@dataclass(frozen=True, slots=True)
class Held:
    """A verified CRL or OCSP response."""

    der: bytes = field(repr=False)
    this_update: datetime
    next_update: datetime
    """From then on it says nothing any more."""
    number: int | None = None
    """Of a CRL (RFC 5280, section 5.2.3)."""
    revoked: frozenset[int] = field(default=frozenset(), repr=False)
    """Serial numbers. Of a CRL also those that earlier ones had: a certificate that has ended leaves the list."""
    issuer: bytes = field(default=b"", repr=False)
    """Of a CRL: its issuer's name, DER."""
    scope: bytes = field(default=b"", repr=False)
    """Of a CRL: which part of its issuer's certificates it is of (RFC 5280, section 5.2.5), DER; empty: all."""

    def older_than(self, other: Held) -> bool:
        """Whether ``other`` speaks for a later time: by number where both have one, else by ``this_update``."""
        if self.number is not None and other.number is not None:
            return self.number < other.number
        return self.this_update < other.this_update

    def ended(self, now: datetime) -> bool:
        return now >= self.next_update

    def ending(self, now: datetime) -> bool:
        """Whether less than a quarter of its life is left: by then its successor should have come."""
        return self.next_update - now < (self.next_update - self.this_update) / 4
