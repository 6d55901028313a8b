"""Identities that were revoked: none of theirs is signed any more, and what they hold is believed by nobody.

Kept in the state, for as long as nobody takes it back: an identity that is forgotten would be good again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from isthmus.errors import SpiffeIdInvalid, StateUnusable
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.state import StateDir

REVOKED = "ca/revoked.json"


@dataclass(frozen=True, slots=True)
class Revocation:
    """``at``: when somebody said so."""

    spiffe_id: SpiffeId
    at: datetime


def read_revoked(state: StateDir) -> tuple[Revocation, ...]:
    """Raises StateUnusable: the file is none of ours. To go on without it would let them in again."""
    data = state.read(REVOKED)
    if data is None:
        return ()
    try:
        return tuple(
            Revocation(SpiffeId.parse(one["spiffe_id"]), datetime.fromisoformat(one["at"])) for one in json.loads(data)
        )
    except (ValueError, TypeError, KeyError, SpiffeIdInvalid):
        raise StateUnusable(f"{state.within(REVOKED)}: not a list of revoked identities") from None


def revoke(state: StateDir, spiffe_id: SpiffeId, now: datetime) -> tuple[Revocation, ...]:
    """All that are revoked, with this one."""
    known = read_revoked(state)
    if any(one.spiffe_id == spiffe_id for one in known):
        return known
    return _write(state, (*known, Revocation(spiffe_id, now)))


def restore(state: StateDir, spiffe_id: SpiffeId) -> tuple[Revocation, ...]:
    """All that are revoked, without this one."""
    return _write(state, tuple(one for one in read_revoked(state) if one.spiffe_id != spiffe_id))


def _write(state: StateDir, revoked: tuple[Revocation, ...]) -> tuple[Revocation, ...]:
    listed = [{"spiffe_id": one.spiffe_id.uri, "at": one.at.isoformat()} for one in revoked]
    state.write_private(REVOKED, json.dumps(listed).encode())
    return revoked
