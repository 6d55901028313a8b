"""A real PostgreSQL, as the distribution ships it, in a folder of its own that goes with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.real.servers import find_server
from tests.real.up import eventually, free_port

_PLACES = "/usr/lib/postgresql/*/bin"
_ACCOUNTS = ("postgres", "nobody")


def _account() -> str | None:
    """PostgreSQL refuses root: the account to be instead, or None where we are not root."""
    if os.geteuid() != 0:
        return None
    known = {line.split(":", 1)[0] for line in Path("/etc/passwd").read_text().splitlines()}
    return next(name for name in _ACCOUNTS if name in known)


class Postgres:
    """Takes connections of user ``shop`` without a password at 127.0.0.1; nothing but the mesh stands before it."""

    def __init__(self) -> None:
        self._initdb, self._server = find_server("initdb", _PLACES), find_server("postgres", _PLACES)
        self.psql = find_server("psql", _PLACES)
        self.port = free_port()
        # Not below pytest's folder, which the server's account may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="isthmus-postgres-", dir="/tmp"))
        self._account = _account()

    def __enter__(self) -> Postgres:
        if self._account is not None:
            shutil.chown(self._folder, self._account)
        data = self._folder / "data"
        self._run(self._initdb, "-D", data, "-U", "shop", "-A", "trust", "--no-sync", "--locale=C")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "1MB",
            "max_connections": "20",
        }
        argv = [str(self._server), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self._folder, user=self._account)
        try:
            eventually(lambda: self.query("127.0.0.1", self.port, "select 1").stdout.strip() == "1", 90)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def query(
        self, host: str, port: int, statement: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What psql, the real client, says of ``statement``, sent to ``host:port``."""
        where = f"host={host} port={port} user=shop dbname=postgres connect_timeout=10 gssencmode=disable"
        argv = [str(self.psql), where, "-XAtc", statement]
        return subprocess.run(
            argv, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=30, check=False
        )

    def _run(self, *argv: str | Path) -> None:
        done = subprocess.run(
            [str(word) for word in argv],
            user=self._account,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
