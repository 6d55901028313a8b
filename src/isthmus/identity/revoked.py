"""What was revoked: identities, of which nothing is signed any more, and single certificates, by their serial number.

Kept in the state. An identity stays until somebody takes it back: one that is forgotten would be good again. A
certificate stays until it has ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from isthmus.errors import Refused, SpiffeIdInvalid, StateUnusable
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.state import StateDir

REVOKED = "ca/revoked.json"
REVOKED_CERTIFICATES = "ca/revoked-certificates.json"
_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")
"""Of at most 20 octets (RFC 5280, section 4.1.2.2)."""


class Reason(StrEnum):
    """Why a certificate is revoked (RFC 5280, section 5.3.1): those of its reasons that a leaf can have."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    """The only one that can be taken back."""
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """``at``: since when; ``until``: when it ends by itself at the latest."""

    serial: int
    at: datetime
    reason: Reason
    until: datetime


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


def parse_serial(text: str) -> int:
    """A serial number in hexadecimal, as ``isthmus ca inspect`` and OpenSSL (with colons) write it. Raises Refused."""
    digits = text.strip().removeprefix("0x").replace(":", "")
    if not _SERIAL.fullmatch(digits) or int(digits, 16) == 0:
        raise Refused(f"{text[:100]!r} is no serial number (up to 40 hexadecimal digits), nor a file")
    return int(digits, 16)


def read_revoked_certificates(state: StateDir) -> tuple[RevokedCertificate, ...]:
    """Raises StateUnusable: the file is none of ours."""
    data = state.read(REVOKED_CERTIFICATES)
    if data is None:
        return ()
    try:
        return tuple(
            RevokedCertificate(
                int(one["serial"], 16),
                datetime.fromisoformat(one["at"]),
                Reason(one["reason"]),
                datetime.fromisoformat(one["until"]),
            )
            for one in json.loads(data)
        )
    except (ValueError, TypeError, KeyError):
        where = state.within(REVOKED_CERTIFICATES)
        raise StateUnusable(f"{where}: not a list of revoked certificates") from None


def write_revoked_certificates(state: StateDir, revoked: Iterable[RevokedCertificate]) -> None:
    """Raises StateUnusable."""
    listed = [certificate_to_json(one) for one in revoked]
    state.write_private(REVOKED_CERTIFICATES, json.dumps(listed).encode())


def certificate_to_json(one: RevokedCertificate) -> dict[str, str]:
    return {
        "serial": f"{one.serial:x}",
        "at": one.at.isoformat(),
        "reason": one.reason.value,
        "until": one.until.isoformat(),
    }
