"""What quotas have used, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.limit.store import QuotaStore


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = QuotaStore(tmp_path)
    assert store.read() == {}
    store.write({"a": ("2026-01", 1), "b": ("2026-01-31", 2)})
    store.write({"a": ("2026-01", 3), "c": ("2025-12", 9)})
    assert QuotaStore(tmp_path).read() == {"a": ("2026-01", 3), "b": ("2026-01-31", 2), "c": ("2025-12", 9)}
    store.forget(("2026-01", "2026-01-31"))
    assert store.read().keys() == {"a", "b"}
    assert (tmp_path / "limits" / "quotas.sqlite").stat().st_mode & 0o777 == 0o600


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "quotas.sqlite").write_bytes(b"something else, longer than a page's header would be" * 9)
    with pytest.raises(StateUnusable, match=r"quotas\.sqlite"):
        QuotaStore(tmp_path).read()
