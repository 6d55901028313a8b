from __future__ import annotations

from datetime import UTC, datetime, timedelta

from isthmus.federation.own import Published, publish, read_published

from .bundles import root

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HINT = timedelta(minutes=5)


def test_the_sequence_grows_with_every_change_and_with_nothing_else() -> None:
    roots = (root(),)
    first, kept = publish(roots, (), HINT, None, NOW)
    assert (first.sequence, first.refresh_hint) == (int(NOW.timestamp()), HINT)
    same, still = publish(roots, (), HINT, read_published(kept.to_json()), NOW + HINT)
    assert (same, still) == (first, kept)
    changed, _ = publish((*roots, root("next")), (), HINT, kept, NOW)
    assert changed.sequence == int(NOW.timestamp()) + 1
    lost, _ = publish((*roots, root("next")), (), HINT, None, NOW + HINT)
    assert lost.sequence is not None
    assert changed.sequence is not None
    assert lost.sequence > changed.sequence


def test_what_cannot_be_read_is_nothing() -> None:
    assert read_published(None) is None
    assert read_published("no") is None
    assert read_published("{}") is None
    assert read_published(Published("a", 1).to_json()) == Published("a", 1)
