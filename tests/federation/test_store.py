from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.federation.store import BundleStore, StoredBundle

from .bundles import bundle, web

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_it_keeps_what_one_source_gave(tmp_path: Path) -> None:
    store, held = BundleStore(tmp_path / "federation"), bundle(sequence=3)
    assert store.load(web()) is None
    store.save(web(), held, NOW)
    assert store.load(web()) == StoredBundle(held, NOW)
    assert store.load(web("https://elsewhere/")) is None
    assert store.load(web(anchor=bundle())) is None
    (file,) = store.folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("half a docu")
    assert store.load(web()) is None


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "federation").write_text("a file")
    with pytest.raises(StateUnusable):
        BundleStore(tmp_path / "federation").save(web(), bundle(), NOW)
