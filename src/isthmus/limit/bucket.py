"""A token bucket as one number: when it will be full again (GCRA, the generic cell rate algorithm of ITU-T I.371).

Each request moves that time on by what one token takes to come back; a request that would move it further ahead of now
than a whole bucket takes is refused. In any span of time T no more pass than ``burst + T * requests / per``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.model.limit import Rate

_ROUNDING = 1e-6
"""Of one token: what sums of floating point numbers may be off."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``remaining``: how many more pass at once. ``reset``: seconds until all are back; of a refusal until one is."""

    allowed: bool
    remaining: int
    reset: float


def interval(rate: Rate) -> float:
    """Seconds that one token takes to come back."""
    return rate.per.total_seconds() / rate.requests


def take(full_at: float, now: float, rate: Rate) -> float | None:
    """When the bucket is full again if one more is taken, or None: none is there. Seconds of one clock."""
    token = interval(rate)
    moved = max(full_at, now) + token
    return moved if moved - now <= token * (rate.burst + _ROUNDING) else None


def verdict(ahead: float, rate: Rate, *, allowed: bool) -> Verdict:
    """What is told of a bucket that is full in ``ahead`` seconds, what was allowed taken already."""
    token, ahead = interval(rate), max(ahead, 0.0)
    remaining = math.floor(rate.burst - ahead / token + _ROUNDING)
    reset = ahead if allowed else ahead + token * (1 - rate.burst)
    return Verdict(allowed, max(remaining, 0), max(reset, 0.0))
