"""The keys that sign JWT-SVIDs, one after the other: the next is known everywhere before it signs. No IO, no clock.

Source of the shares of a life: SPIRE, pkg/common/rotationutil and doc/spire_server.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from isthmus.identity.jwt_svid import JwtKey

LIFE = timedelta(days=7)
"""Of one key; what it signed ends with it at the latest."""
_PREPARE = timedelta(days=30)
_ACTIVATE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class JwtKeys:
    """Oldest first: those that have ended are gone, the last may not sign yet."""

    keys: tuple[JwtKey, ...] = ()

    def advanced(self, now: datetime, life: timedelta = LIFE) -> JwtKeys:
        """Without what has ended, and with the next key once the newest has half of its life left (30 d at most)."""
        lasting = tuple(key for key in self.keys if now < key.expires)
        newest = lasting[-1] if lasting else None
        if newest is None or newest.expires - now <= min((newest.expires - newest.made) / 2, _PREPARE):
            lasting = (*lasting, JwtKey.new(now, life))
        return self if lasting == self.keys else JwtKeys(lasting)

    def signing(self, now: datetime) -> JwtKey:
        """The oldest that has more than a sixth of its life left (7 d at most), else the newest."""
        for key in self.keys:
            if key.expires - now > min((key.expires - key.made) / 6, _ACTIVATE):
                return key
        return self.keys[-1]

    @property
    def public(self) -> tuple[str, ...]:
        """The trust domain's keys for JWT-SVIDs, as JWKs."""
        return tuple(key.public_jwk for key in self.keys)
