"""What quotas have used, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.limit.memory import Used
from isthmus.limit.store import QuotaStore


def used(period: str, count: int) -> Used:
    return Used("shop/policy/daily", True, period, count)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = QuotaStore(tmp_path)
    assert store.read() == {}
    one, two, three, old = used("2026-01", 1), used("2026-01-31", 2), used("2026-01", 3), used("2025-12", 9)
    store.write({"a": one, "b": two, "d": one})
    store.write({"a": three, "c": old, "d": None, "e": None})
    assert list(QuotaStore(tmp_path).read().items()) == [("b", two), ("a", three), ("c", old)]
    store.forget(("2026-01", "2026-01-31"))
    assert store.read().keys() == {"a", "b"}
    assert (tmp_path / "limits" / "quotas.sqlite").stat().st_mode & 0o777 == 0o600


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "quotas.sqlite").write_bytes(b"something else, longer than a page's header would be" * 9)
    with pytest.raises(StateUnusable, match=r"quotas\.sqlite"):
        QuotaStore(tmp_path).read()
