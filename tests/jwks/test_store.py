from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.diag import Place, Report, Severity, Source
from isthmus.errors import JwksUnavailable, StateUnusable
from isthmus.jwks.source import JwksSource
from isthmus.jwks.store import JWKS_FILE, JwksStore, load_signing_key, read_file
from isthmus.model.key_set import read_key_set

from .keys import jwk, jwks, key

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
KEYS = read_key_set(jwks(jwk("P-256"), jwk("Ed25519")))
SOURCE = JwksSource("https://issuer.example", "https://issuer.example/keys")


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_gives_back_what_it_keeps(tmp_path: Path) -> None:
    store = JwksStore(tmp_path / "state" / "jwks")
    assert store.load(SOURCE) is None
    store.save(SOURCE, KEYS, NOW)
    found = JwksStore(tmp_path / "state" / "jwks").load(SOURCE)
    assert found is not None
    assert (found.keys, found.fetched_at) == (KEYS, NOW)


def test_the_newest_counts_and_sources_do_not_mix(tmp_path: Path) -> None:
    store, newer = JwksStore(tmp_path), read_key_set(jwks(jwk("P-384")))
    store.save(SOURCE, KEYS, NOW)
    store.save(SOURCE, newer, NOW)
    found = store.load(SOURCE)
    assert found is not None
    assert found.keys == newer
    assert store.load(JwksSource(SOURCE.issuer)) is None
    assert store.load(JwksSource(SOURCE.issuer, SOURCE.issuer)) is None


def test_only_this_user_reads_it_and_nothing_else_lies_about(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        JwksStore(tmp_path / "jwks").save(SOURCE, KEYS, NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "jwks").stat().st_mode) == 0o700
    assert stat.S_IMODE(only(tmp_path / "jwks").stat().st_mode) == 0o600
    assert json.loads(only(tmp_path / "jwks").read_text())["issuer"] == SOURCE.issuer


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://other.example"},
        {"uri": None},
        {"fetched_at": "yesterday"},
        {"fetched_at": "2026-01-02T03:04:05"},
        {"fetched_at": None},
        {"keys": {"keys": []}},
        {"keys": None},
    ],
)
def test_what_is_not_whole_counts_as_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    store = JwksStore(tmp_path)
    store.save(SOURCE, KEYS, NOW)
    path = only(tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | change))
    assert store.load(SOURCE) is None
    path.write_text(json.dumps(document))
    assert store.load(SOURCE) is not None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"issuer"', b"\xff"])
def test_a_file_cut_short_counts_as_nothing(tmp_path: Path, content: bytes) -> None:
    store = JwksStore(tmp_path)
    store.save(SOURCE, KEYS, NOW)
    only(tmp_path).write_bytes(content)
    assert store.load(SOURCE) is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "jwks").write_text("a file")
    with pytest.raises(StateUnusable, match="jwks"):
        JwksStore(tmp_path / "jwks").save(SOURCE, KEYS, NOW)


def test_reads_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(KEYS.text)
    assert read_file(path) == KEYS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "not JSON"),
        (b"-----BEGIN PUBLIC KEY-----", "not JSON"),
        (b'{"keys":[]}', "no usable key"),
        (json.dumps({"keys": [key("P-256").as_dict(private=True)]}).encode(), "contains a private key"),
        (b" " * (1024 * 1024 + 1), "more than 1048576 bytes"),
    ],
    ids=["missing", "empty", "PEM", "no key", "private", "huge"],
)
def test_a_file_that_is_no_key_set_is_named_with_the_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JwksUnavailable, match=rf"keys\.json: {reason}"):
        read_file(path)


def test_a_folder_is_no_file_of_keys(tmp_path: Path) -> None:
    with pytest.raises(JwksUnavailable, match="Is a directory"):
        read_file(tmp_path)


def test_the_finding_about_a_file_reads_well(tmp_path: Path) -> None:
    path, report = tmp_path / "keys.json", Report()
    with pytest.raises(JwksUnavailable) as fault:
        read_file(path)
    report.add(JWKS_FILE, Place(Source(str(path), 1, 1)), issuer="https://issuer.example", reason=fault.value)
    (found,) = report
    assert found.severity is Severity.ERROR
    expected = f"{path}:1:1: error ISM6101 --jwks https://issuer.example: {path}: No such file or directory"
    assert str(found).replace(" : ", " ") == expected


def test_the_signing_key_is_made_once_and_kept_for_this_user(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    made = load_signing_key(folder)
    assert load_signing_key(folder).thumbprint == made.thumbprint
    assert [path.name for path in folder.iterdir()] == ["key.pem"]
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_that_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    start, found = threading.Barrier(4), list[str]()

    def load() -> None:
        start.wait()
        found.append(load_signing_key(tmp_path / "tokens").thumbprint)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["key.pem"]


def test_a_broken_signing_key_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("broken")
    with pytest.raises(StateUnusable, match="not a private key; remove it"):
        load_signing_key(tmp_path)
    assert (tmp_path / "key.pem").read_text() == "broken"
