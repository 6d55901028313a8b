"""Keys and changes as they go to another machine: JSON, one object a message.

``Find``: an id as text → a record, or ``null``. ``Changes``: a position, or nothing → the position now, and what
changed up to it. What changed is told by :func:`fingerprint`: a machine knows again what it asked for, and learns no
other id.
"""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256

from isthmus.consumer.record import Changes, KeyRecord, Position

_FINGERPRINT_DIGITS = 32


def fingerprint(key_id: str) -> str:
    """Of a key's id; 128 bits, as hexadecimal digits. An id is random (71 bits): it is not found by trying."""
    return sha256(key_id.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def encode_record(record: KeyRecord | None) -> bytes:
    if record is None:
        return b"null"
    return json.dumps(
        {
            "id": record.id,
            "consumer": record.consumer,
            "digest": record.digest.hex(),
            "created": record.created.isoformat(),
            "expires": None if record.expires is None else record.expires.isoformat(),
            "revoked": None if record.revoked is None else record.revoked.isoformat(),
        }
    ).encode()


def decode_record(data: bytes) -> KeyRecord | None:
    """Raises ValueError."""
    try:
        found = json.loads(data)
        if found is None:
            return None
        return KeyRecord(
            str(found["id"]),
            str(found["consumer"]),
            bytes.fromhex(found["digest"]),
            datetime.fromisoformat(found["created"]),
            _time(found["expires"]),
            _time(found["revoked"]),
        )
    except (KeyError, TypeError) as broken:
        raise ValueError("not the record of a key") from broken


def encode_position(position: Position | None) -> bytes:
    """None: whoever asks knows nothing yet."""
    return b"" if position is None else json.dumps(_position(position)).encode()


def decode_position(data: bytes) -> Position | None:
    """Raises ValueError."""
    return None if not data else _read_position(json.loads(data))


def encode_changes(changes: Changes) -> bytes:
    """With fingerprints of the ids."""
    ids = None if changes.ids is None else sorted(map(fingerprint, changes.ids))
    return json.dumps({**_position(changes.position), "changed": ids}).encode()


def decode_changes(data: bytes) -> Changes:
    """Its ``ids`` are fingerprints. Raises ValueError."""
    found = json.loads(data)
    position = _read_position(found)
    changed = found.get("changed")
    if changed is not None and not isinstance(changed, list):
        raise ValueError("not what changed")
    return Changes(position, None if changed is None else frozenset(map(str, changed)))


def _position(position: Position) -> dict[str, str | int]:
    return {"store": position.store, "sequence": position.sequence}


def _read_position(found: object) -> Position:
    match found:
        case {"store": str(store), "sequence": int(sequence)}:
            return Position(store, sequence)
    raise ValueError("not a position")


def _time(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)
