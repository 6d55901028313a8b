"""What quotas have used, in the state of the machine: SQLite, written a moment after it is counted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from isthmus.errors import StateUnusable

_FILE = "limits/quotas.sqlite"
_TABLE = "CREATE TABLE IF NOT EXISTS quota (bucket TEXT PRIMARY KEY, period TEXT NOT NULL, used INTEGER NOT NULL)"
_PUT = "INSERT OR REPLACE INTO quota VALUES (?, ?, ?)"


class QuotaStore:
    """Its methods raise StateUnusable where the file cannot be read or written."""

    def __init__(self, state: Path) -> None:
        self._path = state / _FILE

    def read(self) -> dict[str, tuple[str, int]]:
        """By bucket: the period and how many."""
        with self._open() as connection:
            return {name: (period, used) for name, period, used in connection.execute("SELECT * FROM quota")}

    def write(self, used: Mapping[str, tuple[str, int]]) -> None:
        """Put what is new."""
        with self._open() as connection:
            connection.executemany(_PUT, ((name, period, count) for name, (period, count) in used.items()))
            connection.commit()

    def forget(self, current: Iterable[str]) -> None:
        """Remove what is of no ``current`` period."""
        with self._open() as connection:
            kept = set(current)
            known = [period for (period,) in connection.execute("SELECT DISTINCT period FROM quota")]
            connection.executemany("DELETE FROM quota WHERE period = ?", ((one,) for one in known if one not in kept))
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
