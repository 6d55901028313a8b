"""What is kept of an API key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class KeyState(Enum):
    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key of ``consumer`` (``namespace/name``). ``digest``: :attr:`isthmus.consumer.key.ApiKey.digest`."""

    id: str
    consumer: str
    digest: bytes = field(repr=False)
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def state(self, now: datetime) -> KeyState:
        """What it is good for."""
        if self.revoked is not None:
            return KeyState.REVOKED
        if self.expires is not None and self.expires <= now:
            return KeyState.EXPIRED
        return KeyState.LIVE


@dataclass(frozen=True, slots=True)
class Position:
    """How far a store's change log is. ``store``: of which one, so that a replaced one is told from its past."""

    store: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed up to ``position``: ids of keys; None: anything may have."""

    position: Position
    ids: frozenset[str] | None
