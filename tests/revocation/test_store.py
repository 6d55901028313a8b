from __future__ import annotations

import stat
from pathlib import Path

import pytest

from isthmus.errors import StateUnusable
from isthmus.revocation.source import CrlSource
from isthmus.revocation.store import RevocationStore
from tests.real.pki import Authority

from .making import NOW, altered, crl

CA = Authority("clients")
SOURCE = CrlSource("http://ca.example/crl", CA.pem)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    store = RevocationStore(tmp_path / "revocation")
    assert store.load(SOURCE, NOW) is None
    held = SOURCE.read(crl(CA, 7), NOW)
    store.save(SOURCE, held)
    assert store.load(SOURCE, NOW) == held
    [file] = store.folder.iterdir()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(store.folder.stat().st_mode)) == (0o600, 0o700)


def test_it_is_verified_anew(tmp_path: Path) -> None:
    store = RevocationStore(tmp_path)
    store.save(SOURCE, SOURCE.read(crl(CA, 7), NOW))
    [file] = tmp_path.iterdir()
    file.write_bytes(altered(file.read_bytes()))
    assert store.load(SOURCE, NOW) is None


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable):
        RevocationStore(tmp_path / "file" / "revocation").save(SOURCE, SOURCE.read(crl(CA), NOW))
