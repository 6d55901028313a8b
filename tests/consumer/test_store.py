"""On SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sql

from isthmus.consumer.key import ApiKey
from isthmus.consumer.place import FILE, remember
from isthmus.consumer.record import Changes, KeyRecord, KeyState, Position
from isthmus.consumer.store import CredentialStore
from isthmus.errors import CredentialsUnavailable
from isthmus.state import StateDir
from tests.real.postgres import Postgres

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CredentialStore]:
    if request.param == "sqlite":
        made = CredentialStore.at_file(tmp_path / "keys.sqlite")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        database = f"t{os.urandom(6).hex()}"
        server.query("127.0.0.1", server.port, f"create database {database}")
        made = CredentialStore.at_url(f"postgresql://shop@127.0.0.1:{server.port}/{database}")
    yield made
    made.close()


def record(consumer: str = "shop/mobile", **others: object) -> KeyRecord:
    key = ApiKey.make()
    return replace(KeyRecord(key.id, consumer, key.digest, NOW), **others)  # type: ignore[arg-type]


def test_what_is_added_is_found(store: CredentialStore) -> None:
    ending = record(expires=NOW + DAY)
    store.add(ending)
    assert store.find(ending.id) == ending
    assert store.find(ApiKey.make().id) is None


def test_keys_of_one_and_of_all(store: CredentialStore) -> None:
    old, new = record(), record(created=NOW + DAY)
    other = record("shop/partner", expires=NOW)
    for one in (new, old, other):
        store.add(one)
    assert store.records("shop/mobile") == [old, new]
    assert {one.id for one in store.records()} == {old.id, new.id, other.id}
    assert store.counts(NOW) == {"shop/mobile": 2, "shop/partner": 0}


def test_an_id_is_used_once(store: CredentialStore) -> None:
    known = record()
    store.add(known)
    with pytest.raises(CredentialsUnavailable, match=r"UNIQUE|unique"):
        store.add(replace(known, consumer="shop/thief"))
    assert store.records() == [known]


def test_revoked_for_good(store: CredentialStore) -> None:
    key, stranger = record(), ApiKey.make().id
    store.add(key)
    assert store.revoke([key.id, stranger], NOW) == [key.id]
    assert store.revoke([key.id], NOW + DAY) == [key.id]
    assert store.find(key.id) == replace(key, revoked=NOW)


def test_rotated_both_live_until_the_old_one_ends(store: CredentialStore) -> None:
    old, new = record(), record()
    store.add(old)
    store.rotate(old.id, new, NOW + DAY, NOW)
    assert store.find(old.id) == replace(old, expires=NOW + DAY)
    assert store.find(new.id) == new


def test_rotating_lengthens_no_life(store: CredentialStore) -> None:
    old = record(expires=NOW + DAY)
    store.add(old)
    store.rotate(old.id, record(), NOW + 7 * DAY, NOW)
    assert store.find(old.id) == old


@pytest.mark.parametrize(
    ("changed", "said"), [({"revoked": NOW}, "is revoked"), ({"expires": NOW}, "is expired"), (None, "there is no key")]
)
def test_what_is_over_is_not_rotated(store: CredentialStore, changed: dict[str, datetime] | None, said: str) -> None:
    old = record(**(changed or {}))
    if changed is not None:
        store.add(old)
    with pytest.raises(CredentialsUnavailable, match=said):
        store.rotate(old.id, record(), NOW + DAY, NOW)
    assert len(store.records()) == (changed is not None)


def test_readers_are_told_which_keys_changed(store: CredentialStore) -> None:
    start = store.position()
    assert store.changes(start) == Changes(start, frozenset())
    one, other, newer = record(), record(), record()
    store.add(one)
    store.add(other)
    between = store.position()
    store.revoke([one.id], NOW)
    store.rotate(other.id, newer, NOW + DAY, NOW)
    assert store.changes(start).ids == {one.id, other.id, newer.id}
    assert store.changes(between) == Changes(store.position(), frozenset({one.id, other.id, newer.id}))
    assert store.changes(store.position()).ids == frozenset()


def test_readers_forget_everything_where_the_log_does_not_say(store: CredentialStore) -> None:
    start = store.position()
    assert store.add_many(record() for _ in range(25)) == 25
    assert store.changes(start).ids is None
    assert store.changes(Position("another store", store.position().sequence)).ids is None
    assert store.changes(Position(start.store, start.sequence + 1000)).ids is None
    assert len(store.records()) == 25


def test_a_log_that_was_cut_is_no_proof(store: CredentialStore) -> None:
    start = store.position()
    store.add(record())
    with store._engine.begin() as connection:
        connection.execute(sql.text("UPDATE credential_store SET sequence = sequence + 20000"))
    last = record()
    store.add(last)
    assert store.changes(start).ids is None
    assert store.changes(Position(start.store, start.sequence + 20001)).ids == {last.id}


def test_several_writers_at_once(store: CredentialStore) -> None:
    start = store.position()

    def write(_: int) -> str:
        made = record()
        store.add(made)
        return made.id

    with ThreadPoolExecutor(4) as pool:
        written = set(pool.map(write, range(24)))
    assert {one.id for one in store.records()} == written
    assert store.changes(start).ids == written


def test_a_later_version_is_not_touched(store: CredentialStore) -> None:
    with store._engine.begin() as connection:
        connection.execute(sql.text("UPDATE credential_store SET version = 9"))
    with pytest.raises(CredentialsUnavailable, match=r"a later version of Isthmus .*of version 9, these are 1"):
        store._made()


def test_two_processes_make_it_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from isthmus.consumer.store import CredentialStore; from isthmus.consumer.record import KeyRecord\n"
        "from isthmus.consumer.key import ApiKey\n"
        "store = CredentialStore.at_file(Path(sys.argv[1]))\n"
        "for _ in range(10):\n"
        "    key = ApiKey.make(); store.add(KeyRecord(key.id, 'shop/mobile', key.digest, datetime.now(UTC)))\n"
    )
    file = tmp_path / "keys.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", code, str(file)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(CredentialStore.at_file(file).records("shop/mobile")) == 30


def test_files_are_the_users_alone(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    store = CredentialStore.of(state)
    store.add(record())
    folder = (state.path / FILE).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert store.shown == str(state.path / FILE)


def test_what_is_written_holds_no_key(tmp_path: Path) -> None:
    key = ApiKey.make()
    store = CredentialStore.at_file(tmp_path / "keys.sqlite")
    store.add(KeyRecord(key.id, "shop/mobile", key.digest, NOW))
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key.digest in written
    assert key.secret.encode() not in written


def test_no_right_to_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.sqlite"
    CredentialStore.at_file(file).close()
    code = (
        "import os, sys\n"
        "from isthmus.consumer.store import CredentialStore; from isthmus.errors import CredentialsUnavailable\n"
        "from pathlib import Path\n"
        "os.getuid() == 0 and os.setuid(65534)\n"
        "try: CredentialStore.at_file(Path(sys.argv[1]))\n"
        "except CredentialsUnavailable as said: print(said)\n"
    )
    file.chmod(0)
    ran = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{file}: Permission denied\n"


def test_a_file_that_was_replaced_says_so(tmp_path: Path) -> None:
    file = tmp_path / "keys.sqlite"
    store = CredentialStore.at_file(file)
    assert not store.replaced
    for name in ("keys.sqlite", "keys.sqlite-wal", "keys.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert store.replaced
    other = CredentialStore.at_file(file)
    assert not other.replaced
    assert other.position().store != "", "a store of its own"


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "keys.sqlite").write_bytes(b"not a database, at all" * 100)
    with pytest.raises(CredentialsUnavailable, match="file is not a database"):
        CredentialStore.at_file(tmp_path / "keys.sqlite")


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    remember(state, "postgresql://isthmus:hunter2@127.0.0.1:1/none")
    with pytest.raises(CredentialsUnavailable, match=r"postgresql://127.0.0.1:1/none: .*refused") as raised:
        CredentialStore.of(state)
    assert "hunter2" not in str(raised.value)


def test_states_survive(store: CredentialStore) -> None:
    key = record(expires=NOW + DAY)
    store.add(key)
    found = store.find(key.id)
    assert found is not None
    assert found.state(NOW) is KeyState.LIVE
    assert found.state(NOW + DAY) is KeyState.EXPIRED


def test_many_make_the_same_file_at_once(tmp_path: Path) -> None:
    """SQLite lets one of them change what a new file is like, and tells the others at once that it is locked."""
    for number in range(10):
        file = tmp_path / f"{number}.sqlite"
        with ThreadPoolExecutor(8) as many:
            stores = list(many.map(CredentialStore.at_file, [file] * 8))
        assert len({store.position().store for store in stores}) == 1
        for store in stores:
            store.close()
