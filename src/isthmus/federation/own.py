"""Our own bundle, as others fetch it, with a number that grows with every change. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from isthmus.model.spiffe_bundle import SpiffeBundle

OWN_FILE = "federation/own.json"
"""Of the state: what was published last."""


@dataclass(frozen=True, slots=True)
class Published:
    """The sequence that was given to the bundle of this digest."""

    digest: str
    sequence: int

    def to_json(self) -> str:
        return json.dumps({"digest": self.digest, "sequence": self.sequence})


def read_published(text: str | bytes | None) -> Published | None:
    """What :meth:`Published.to_json` wrote; None for anything else."""
    try:
        found = json.loads(text or "")
        return Published(str(found["digest"]), int(found["sequence"]))
    except (ValueError, KeyError, TypeError):
        return None


def publish(
    roots: tuple[str, ...], jwt_keys: tuple[str, ...], hint: timedelta, last: Published | None, now: datetime
) -> tuple[SpiffeBundle, Published]:
    """The bundle, and what to keep of it for the next time.

    The sequence is the time of the change, in seconds: it grows even where the state, and the last number with it, was
    lost. Others refuse a bundle whose number went back.
    """
    bundle = SpiffeBundle(roots, jwt_keys, refresh_hint=hint)
    digest = hashlib.sha256(bundle.to_json().encode()).hexdigest()
    if last is None or last.digest != digest:
        least = last.sequence + 1 if last is not None else 0
        last = Published(digest, max(least, int(now.timestamp())))
    return replace(bundle, sequence=last.sequence), last
