"""The store of consumers' credentials: SQLite in the state, or PostgreSQL.

Every writing transaction begins by counting up ``sequence`` in the one row of ``credential_store``: that row's lock
lets writers in one after another, so what a reader sees of the change log has no gap that fills later.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from isthmus.consumer.place import FILE, shown_url, store_url
from isthmus.consumer.record import Changes, KeyRecord, KeyState, Position
from isthmus.errors import CredentialsUnavailable
from isthmus.state import StateDir

VERSION = 1
"""Of the tables. A store of a later one is refused: what it says of a key may not be understood."""

_TABLES = sql.MetaData()
_STORE = sql.Table(
    "credential_store",
    _TABLES,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("name", sql.String(32), nullable=False),
    sql.Column("sequence", sql.BigInteger, nullable=False),
)
_KEYS = sql.Table(
    "api_key",
    _TABLES,
    sql.Column("id", sql.String(12), primary_key=True),
    sql.Column("consumer", sql.String(512), nullable=False),
    sql.Column("digest", sql.LargeBinary(32), nullable=False),
    sql.Column("created_ms", sql.BigInteger, nullable=False),
    sql.Column("expires_ms", sql.BigInteger),
    sql.Column("revoked_ms", sql.BigInteger),
    sqlite_with_rowid=False,
)
_BY_CONSUMER = sql.Index("api_key_by_consumer", _KEYS.c.consumer)
_CHANGES = sql.Table(
    "credential_change",
    _TABLES,
    sql.Column("sequence", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("key_id", sql.String(12)),
)
"""``key_id`` NULL: anything may have changed."""

_LOG_LENGTH = 10_000
_CONNECT_SECONDS = 2
_STATEMENT_MS = 2_000
_BUSY_SECONDS = 3
_AGAIN_SECONDS = 0.02
_LOCKED = "database is locked"
"""SQLite's words (SQLITE_BUSY)."""


class CredentialStore:
    """Every method raises CredentialsUnavailable when the store does not answer; the message holds no secret."""

    def __init__(self, engine: Engine, shown: str, file: Path | None = None) -> None:
        """``shown``: what to call it before people. ``file``: what it is in, where that is a file."""
        self._engine = engine
        self.shown = shown
        self._file = file
        self._identity = _identity(file)

    @classmethod
    def of(cls, state: StateDir) -> Self:
        """The store of a state directory (open), made where there is none yet. Raises CredentialsUnavailable."""
        url = store_url(state)
        return cls.at_url(url) if url is not None else cls.at_file(state.within(FILE))

    @classmethod
    def at_file(cls, path: Path) -> Self:
        """In SQLite. The file is the user's alone (0600), as what SQLite puts beside it."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as failed:
            raise CredentialsUnavailable(f"{path}: {failed.strerror}") from failed
        engine = sql.create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
            hide_parameters=True,
        )
        event.listen(engine, "connect", _write_ahead)
        return cls(engine, str(path), path)._made()

    @classmethod
    def at_url(cls, url: str) -> Self:
        """In PostgreSQL, asked with short patience. ``url``: as :func:`isthmus.consumer.place.read_url` gives it."""
        try:
            engine = sql.create_engine(
                make_url(url).set(drivername="postgresql+psycopg"),
                connect_args={
                    "connect_timeout": _CONNECT_SECONDS,
                    "tcp_user_timeout": _STATEMENT_MS,
                    # Of a machine that went away with a question the system hears after two hours otherwise.
                    "keepalives_idle": _CONNECT_SECONDS,
                    "keepalives_interval": _CONNECT_SECONDS,
                    "options": f"-c statement_timeout={_STATEMENT_MS}",
                    "application_name": "isthmus",
                    "client_encoding": "utf8",  # a database that was made without a locale has none
                },
                pool_pre_ping=True,
                hide_parameters=True,
            )
        except (SQLAlchemyError, ValueError):
            raise CredentialsUnavailable("the store's URL cannot be read") from None
        except ImportError:
            raise CredentialsUnavailable("PostgreSQL needs the extra: pip install 'isthmus[postgres]'") from None
        return cls(engine, shown_url(url))._made()

    def close(self) -> None:
        self._engine.dispose()

    @property
    def replaced(self) -> bool:
        """Whether another file, or none, has its name by now: what is written from now on is not seen here."""
        return _identity(self._file) != self._identity

    def add(self, record: KeyRecord) -> None:
        """Raises CredentialsUnavailable for an id that there is, too."""
        with self._writing([record.id]) as connection:
            connection.execute(_KEYS.insert(), _row(record))

    def add_many(self, records: Iterable[KeyRecord], at_once: int = 10_000) -> int:
        """All of them in one transaction; how many. For an import: readers forget everything they know after it."""
        count = 0
        with self._writing([None]) as connection:
            batch: list[dict[str, Any]] = []
            for record in records:
                batch.append(_row(record))
                count += 1
                if len(batch) == at_once:
                    connection.execute(_KEYS.insert(), batch)
                    batch = []
            if batch:
                connection.execute(_KEYS.insert(), batch)
        return count

    def find(self, key_id: str) -> KeyRecord | None:
        """One key, whatever its state."""
        with self._reading() as connection:
            found = connection.execute(_FIND, {"key_id": key_id}).first()
        return None if found is None else _record(found)

    def records(self, consumer: str | None = None) -> list[KeyRecord]:
        """Of ``consumer`` (``namespace/name``), or all; the oldest first."""
        wanted = sql.select(_KEYS).order_by(_KEYS.c.created_ms, _KEYS.c.id)
        if consumer is not None:
            wanted = wanted.where(_KEYS.c.consumer == consumer)
        with self._reading() as connection:
            return [_record(row) for row in connection.execute(wanted)]

    def counts(self, now: datetime) -> dict[str, int]:
        """How many live keys each consumer has; without those that have none of any state."""
        live = sql.and_(
            _KEYS.c.revoked_ms.is_(None), sql.or_(_KEYS.c.expires_ms.is_(None), _KEYS.c.expires_ms > _ms(now))
        )
        counted = sql.func.sum(sql.case((live, 1), else_=0))
        with self._reading() as connection:
            rows = connection.execute(sql.select(_KEYS.c.consumer, counted).group_by(_KEYS.c.consumer))
            return {consumer: int(count) for consumer, count in rows}

    def rotate(self, old: str, new: KeyRecord, ends: datetime, now: datetime) -> None:
        """Put ``new`` beside the key ``old``, which ends at ``ends``, or when it would have ended before.

        Raises CredentialsUnavailable: there is no such key, or it is good for nothing any more.
        """
        with self._writing([old, new.id]) as connection:
            found = connection.execute(_FIND, {"key_id": old}).first()
            if found is None:
                raise CredentialsUnavailable(f"there is no key {old}")
            known = _record(found)
            if known.state(now) is not KeyState.LIVE:
                raise CredentialsUnavailable(f"key {old} is {known.state(now).value}: create a new one")
            ends = ends if known.expires is None else min(ends, known.expires)
            connection.execute(_KEYS.update().where(_KEYS.c.id == old), {"expires_ms": _ms(ends)})
            connection.execute(_KEYS.insert(), _row(new))

    def revoke(self, ids: Iterable[str], now: datetime) -> list[str]:
        """Those of ``ids`` that there are are good for nothing from now on; one that was revoked before stays so."""
        wanted = list(dict.fromkeys(ids))
        with self._writing(wanted) as connection:
            found = set(connection.execute(sql.select(_KEYS.c.id).where(_KEYS.c.id.in_(wanted))).scalars())
            live = _KEYS.c.id.in_(found) & _KEYS.c.revoked_ms.is_(None)
            connection.execute(_KEYS.update().where(live), {"revoked_ms": _ms(now)})
        return [one for one in wanted if one in found]

    def position(self) -> Position:
        """How far the change log is: one small question."""
        with self._reading() as connection:
            return _position(connection)

    def changes(self, since: Position) -> Changes:
        """What changed after ``since``. Of another store, or too long ago: anything may have."""
        with self._reading() as connection:
            now = _position(connection)
            if now == since:
                return Changes(now, frozenset())
            rows = connection.execute(_SINCE, {"since": since.sequence, "until": now.sequence}).scalars().all()
        complete = now.store == since.store and 0 < now.sequence - since.sequence == len(rows)
        known = [row for row in rows if row is not None]
        return Changes(now, frozenset(known) if complete and len(known) == len(rows) else None)

    def _made(self) -> Self:
        """With its tables, whoever else makes them at the same time."""
        with self._answering():
            found = self._version()
            if found is None:
                # Its tables may be there and its row not yet: SQLite does not make them in one.
                self._make()
                found = self._version() or 0
        if found > VERSION:
            self.close()
            raise CredentialsUnavailable(
                f"{self.shown} was written by a later version of Isthmus (its tables are of version {found}, "
                f"these are {VERSION}): use that version"
            )
        return self

    def _version(self) -> int | None:
        if not sql.inspect(self._engine).has_table(_STORE.name):
            return None
        with self._engine.connect() as connection:
            found: int | None = connection.execute(sql.select(_STORE.c.version)).scalar_one_or_none()
            return found

    def _make(self) -> None:
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(hashtext('isthmus.credential_store'))"))
            for table in (_KEYS, _CHANGES, _STORE):
                connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(CreateIndex(_BY_CONSUMER, if_not_exists=True))
            connection.execute(_BEGIN, {"version": VERSION, "name": secrets.token_hex(16)})

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._answering(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self, changed: Sequence[str | None]) -> Iterator[Connection]:
        """A transaction that writes to the change log that these keys changed; None: any."""
        with self._answering(), self._engine.begin() as connection:
            last = connection.execute(_COUNT_UP, {"steps": len(changed)}).scalar_one()
            first = last - len(changed) + 1
            rows = [{"sequence": first + at, "key_id": key} for at, key in enumerate(changed)]
            if rows:
                connection.execute(_CHANGES.insert(), rows)
            connection.execute(_CHANGES.delete().where(_CHANGES.c.sequence <= last - _LOG_LENGTH))
            yield connection

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as failed:
            # The driver's own words, on one line; parameters are hidden, and no driver repeats a password.
            said = " ".join(str(getattr(failed, "orig", None) or failed).split())[:300]
            if said == _LOCKED:
                said = f"another program has held it for {_BUSY_SECONDS} s ({said}): try again when that is done"
            raise CredentialsUnavailable(f"{self.shown}: {said}") from failed


_BEGIN = sql.text(
    "INSERT INTO credential_store (id, version, name, sequence) VALUES (1, :version, :name, 0) ON CONFLICT DO NOTHING"
)
_COUNT_UP = (
    _STORE.update()
    .where(_STORE.c.id == 1)
    .values(sequence=_STORE.c.sequence + sql.bindparam("steps", type_=sql.BigInteger))
    .returning(_STORE.c.sequence)
)
_FIND = sql.select(_KEYS).where(_KEYS.c.id == sql.bindparam("key_id"))
_SINCE = (
    sql.select(_CHANGES.c.key_id)
    .where(_CHANGES.c.sequence > sql.bindparam("since"))
    .where(_CHANGES.c.sequence <= sql.bindparam("until"))
)


def _identity(file: Path | None) -> tuple[int, int] | None:
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _write_ahead(connection: Any, _record: Any) -> None:
    """Readers do not wait for a writer, and what is committed is on the disk."""
    cursor = connection.cursor()
    # Only of a new file: of two who make it at once SQLite tells one that it is locked, and waits for neither.
    until = time.monotonic() + _BUSY_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _position(connection: Connection) -> Position:
    name, sequence = connection.execute(sql.select(_STORE.c.name, _STORE.c.sequence)).one()
    return Position(name, sequence)


def _row(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "consumer": record.consumer,
        "digest": record.digest,
        "created_ms": _ms(record.created),
        "expires_ms": None if record.expires is None else _ms(record.expires),
        "revoked_ms": None if record.revoked is None else _ms(record.revoked),
    }


def _record(row: Any) -> KeyRecord:
    return KeyRecord(
        row.id, row.consumer, bytes(row.digest), _time(row.created_ms), _when(row.expires_ms), _when(row.revoked_ms)
    )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _when(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _time(milliseconds)
