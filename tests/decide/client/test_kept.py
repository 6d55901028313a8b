from __future__ import annotations

from datetime import UTC, datetime, timedelta

from isthmus.decide.client.kept import Kept

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)


def test_until_its_time() -> None:
    kept: Kept[str] = Kept(2)
    kept.put(b"a", "A", LATER)
    assert kept.get(b"a", NOW) == "A"
    assert kept.get(b"a", LATER) is None
    assert len(kept) == 0


def test_the_longest_unused_goes_first() -> None:
    kept: Kept[str] = Kept(2)
    kept.put(b"a", "A", LATER)
    kept.put(b"b", "B", LATER)
    assert kept.get(b"a", NOW) == "A"
    kept.put(b"c", "C", LATER)
    assert [kept.get(key, NOW) for key in (b"a", b"b", b"c")] == ["A", None, "C"]
    kept.clear()
    assert len(kept) == 0
