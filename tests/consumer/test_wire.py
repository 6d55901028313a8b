from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.consumer.wire import (
    decode_changes,
    decode_position,
    decode_record,
    encode_changes,
    encode_position,
    encode_record,
    fingerprint,
)

NOW = datetime(2026, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
KEY = ApiKey.make()
HERE = Position("store", 7)


@pytest.mark.parametrize(
    "record",
    [
        None,
        KeyRecord(KEY.id, "shop/mobile", KEY.digest, NOW),
        KeyRecord(KEY.id, "shop/mobile", KEY.digest, NOW, NOW + timedelta(days=1), NOW),
    ],
)
def test_a_record_arrives_as_it_was(record: KeyRecord | None) -> None:
    assert decode_record(encode_record(record)) == record


def test_no_secret_travels() -> None:
    assert KEY.secret not in encode_record(KeyRecord(KEY.id, "shop/mobile", KEY.digest, NOW)).decode()


def test_a_position_arrives_as_it_was() -> None:
    assert decode_position(encode_position(HERE)) == HERE
    assert decode_position(encode_position(None)) is None


def test_changes_name_no_id() -> None:
    told = encode_changes(Changes(HERE, frozenset({KEY.id})))
    assert KEY.id not in told.decode()
    assert decode_changes(told) == Changes(HERE, frozenset({fingerprint(KEY.id)}))
    assert decode_changes(encode_changes(Changes(HERE, None))) == Changes(HERE, None)
    assert decode_changes(encode_changes(Changes(HERE, frozenset()))).ids == frozenset()


@pytest.mark.parametrize(
    "broken",
    [b"{", b"1", b"[]", b"{}", b'{"id": "a"}', b'{"store": 1, "sequence": "x"}', b"\xff", b'{"id":1,"digest":"x"}'],
)
def test_what_cannot_be_read(broken: bytes) -> None:
    for decode in (decode_record, decode_position, decode_changes):
        with pytest.raises(ValueError, match=r".+"):
            decode(broken)


def test_changes_that_are_no_list() -> None:
    with pytest.raises(ValueError, match="changed"):
        decode_changes(b'{"store": "a", "sequence": 1, "changed": "abc"}')
