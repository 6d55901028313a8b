"""How fast one node may ask: a token bucket for each, so that one machine cannot keep the control plane busy. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from isthmus.errors import Refused


class TooFast(Refused):
    """A node asked for more than its pace allows; a moment later it may again."""


@dataclass(slots=True)
class Pace:
    """``burst`` at once, then ``a_second``. ``what``: of what, for the refusal."""

    what: str
    burst: int
    a_second: float
    _full: dict[str, datetime] = field(default_factory=dict, init=False, repr=False)
    """By node: when its bucket will be full again."""

    def take(self, node: str, now: datetime) -> None:
        """Raises TooFast."""
        token = timedelta(seconds=1 / self.a_second)
        # A clock that was set back must not keep anybody waiting for longer than a whole bucket takes.
        full = min(max(self._full.get(node, now), now), now + token * self.burst)
        self._full[node] = full
        if full + token - now > token * self.burst:
            allowed = f"{self.burst} {self.what} at once, {self.a_second:g} a second"
            raise TooFast(f"the node {node} asks too fast: {allowed}")
        self._full[node] = full + token


def certificates_pace() -> Pace:
    """A machine with a thousand identities gets them all anew at once, and each every twenty seconds."""
    return Pace("certificates", 2000, 100)


def identity_pace(life: timedelta) -> Pace:
    """Of one identity at one machine, whose certificates live so long.

    What lives is written down, for it is revoked with the machine: so a machine has some two hundred of each identity
    at most, however fast it asks. It renews at half of a life; one that starts again and again has that many to go.
    """
    return Pace("certificates of one identity", 100, 100 / life.total_seconds())


def tokens_pace() -> Pace:
    return Pace("JWT-SVIDs", 2000, 100)


def messages_pace() -> Pace:
    """Of its life: that it is there, and well. Few of them are ever new."""
    return Pace("messages", 200, 20)
