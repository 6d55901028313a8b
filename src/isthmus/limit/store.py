"""What quotas have used, in the state of the machine: SQLite, written a moment after it is counted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from isthmus.errors import StateUnusable
from isthmus.limit.memory import Used

_FILE = "limits/quotas.sqlite"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS quotas (bucket TEXT PRIMARY KEY, limit_id TEXT NOT NULL,"
    " clients_choose INTEGER NOT NULL, period TEXT NOT NULL, used INTEGER NOT NULL)"
)
_READ = "SELECT bucket, limit_id, clients_choose, period, used FROM quotas ORDER BY rowid"
"""What is written again gets a new rowid."""
_PUT = "INSERT OR REPLACE INTO quotas VALUES (?, ?, ?, ?, ?)"


class QuotaStore:
    """Its methods raise StateUnusable where the file cannot be read or written."""

    def __init__(self, state: Path) -> None:
        self._path = state / _FILE

    def read(self) -> dict[str, Used]:
        """By bucket, what was written first first."""
        with self._open() as connection:
            return {name: Used(limit, bool(choose), *used) for name, limit, choose, *used in connection.execute(_READ)}

    def write(self, used: Mapping[str, Used | None]) -> None:
        """Put what is new, and remove what is None."""
        rows = (
            (name, one.limit, one.clients_choose, one.period, one.count)
            for name, one in used.items()
            if one is not None
        )
        with self._open() as connection:
            connection.executemany(_PUT, rows)
            gone = ((name,) for name, one in used.items() if one is None)
            connection.executemany("DELETE FROM quotas WHERE bucket = ?", gone)
            connection.commit()

    def forget(self, current: Iterable[str]) -> None:
        """Remove what is of no ``current`` period."""
        with self._open() as connection:
            kept = set(current)
            known = [period for (period,) in connection.execute("SELECT DISTINCT period FROM quotas")]
            connection.executemany("DELETE FROM quotas WHERE period = ?", ((one,) for one in known if one not in kept))
            connection.commit()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self._path, timeout=1)) as connection:
                connection.execute(_TABLE)
                yield connection
        except (OSError, sqlite3.Error) as fault:
            raise StateUnusable(f"{self._path}: {fault}") from fault
