from __future__ import annotations

from datetime import UTC, datetime, timedelta

from isthmus.consumer.record import KeyRecord, KeyState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_states() -> None:
    key = KeyRecord("0123456789ab", "shop/mobile", b"d", NOW)
    assert key.state(NOW) is KeyState.LIVE
    ending = KeyRecord("0123456789ab", "shop/mobile", b"d", NOW, expires=NOW + timedelta(seconds=1))
    assert ending.state(NOW) is KeyState.LIVE
    assert ending.state(NOW + timedelta(seconds=1)) is KeyState.EXPIRED
    revoked = KeyRecord("0123456789ab", "shop/mobile", b"d", NOW, NOW, NOW)
    assert revoked.state(NOW) is KeyState.REVOKED


def test_no_repr_shows_the_digest() -> None:
    assert "7365" not in repr(KeyRecord("0123456789ab", "shop/mobile", b"se", NOW))
    assert "digest" not in repr(KeyRecord("0123456789ab", "shop/mobile", b"se", NOW))
