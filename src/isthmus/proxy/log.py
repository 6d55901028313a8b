"""Logs of what we run, by way of a pipe: turned over by size, and no fault of the disk reaches who writes.

An Envoy that wrote its file itself could not be told to begin another (it opens ``/dev/stdout`` anew, which is the same
file), and lines between a copy and a truncation would be lost. It writes in pieces of up to 64 KiB, ten times a second,
so copying them costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from isthmus.proxy.place import open_log

MAX_BYTES = 64 << 20
"""When a log would grow beyond this, it is renamed ``NAME.1`` and a new one begins."""
OLDER = 3
"""How many of those before are kept: ``NAME.1`` is the newest."""
_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_QUIET_SECONDS = 5.0
"""A disk that is full takes a small piece now and then: only this long without a failure counts as mended."""
_log = logging.getLogger(__name__)


class Logs:
    """The logs of one supervisor, one :class:`LogFile` a path. A fault that they share is told once, and its end."""

    def __init__(
        self,
        say: Callable[[str], None] = _log.warning,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._clock = clock
        self._max_bytes = max_bytes
        self._files: dict[Path, LogFile] = {}
        self._failed_at: float | None = None
        self._lost = 0

    def open(self, path: Path, also: Callable[[bytes], object] | None = None) -> LogPipe:
        """A pipe to the log at ``path``; ``also`` gets what comes, too. To be called on a running loop."""
        return LogPipe(self.file(path), also)

    def file(self, path: Path) -> LogFile:
        """The log at ``path``, to be written from here."""
        if path not in self._files:
            self._files[path] = LogFile(path, self, self._max_bytes)
        return self._files[path]

    def failed(self, path: Path, reason: str, lost: int) -> None:
        """``lost`` bytes were left out."""
        if self._failed_at is None:
            self._say(f"{path} cannot be written ({reason}): lines of logs are left out until it can")
        self._failed_at = self._clock()
        self._lost += lost

    def wrote(self) -> None:
        """Some log took what it was given."""
        if self._failed_at is not None and self._clock() - self._failed_at > _QUIET_SECONDS:
            self._say(f"logs are written again; {self._lost} bytes of them were left out")
            self._failed_at, self._lost = None, 0


class LogFile:
    """One log. What cannot be written is left out, so that the next line that can be is whole."""

    def __init__(self, path: Path, logs: Logs, max_bytes: int = MAX_BYTES, older: int = OLDER) -> None:
        self._path = path
        self._logs = logs
        self._max_bytes = max_bytes
        self._older = older
        self._file: IO[bytes] | None = None
        self._size = 0
        self._line_end = 0
        """Where the last whole line ends in the file."""
        self._skipping = False
        """What was left out ended within a line: the rest of it is left out as well."""

    def write(self, data: bytes) -> None:
        """Append ``data``. Raises nothing."""
        if self._skipping:
            _, end, data = data.partition(b"\n")
            self._skipping = not end
        try:
            self._append(data)
        except OSError as failed:
            self.close()
            self._skipping = not data.endswith(b"\n")
            self._logs.failed(self._path, failed.strerror or str(failed), len(data))
        else:
            self._logs.wrote()

    def close(self) -> None:
        """Let the file go; a later :meth:`write` opens it again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _append(self, data: bytes) -> None:
        file = self._opened()
        if self._size and self._size + len(data) > self._max_bytes:
            file = self._turn_over()
        rest = data
        try:
            while rest:
                # A full disk takes a part.
                written = os.write(file.fileno(), rest)
                if (end := rest.rfind(b"\n", 0, written)) >= 0:
                    self._line_end = self._size + end + 1
                self._size += written
                rest = rest[written:]
        except OSError:
            os.ftruncate(file.fileno(), self._line_end)
            raise

    def _opened(self) -> IO[bytes]:
        """A log that somebody removed is begun anew: lines in a file without a name are nobody's."""
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
            self.close()
        if self._file is None:
            self._file = open_log(self._path)
            self._size = self._line_end = os.fstat(self._file.fileno()).st_size
        return self._file

    def _turn_over(self) -> IO[bytes]:
        for number in range(self._older, 0, -1):
            earlier = self._numbered(number - 1)
            if earlier.exists():
                earlier.replace(self._numbered(number))
        self.close()
        return self._opened()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")


class LogPipe:
    """A pipe whose reading end is copied to a :class:`LogFile` until every writer has closed it.

    A context manager: give :attr:`writer` to a process while it is open.
    """

    def __init__(self, log: LogFile, also: Callable[[bytes], object] | None = None) -> None:
        self._log = log
        self._also = also
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        if sys.platform == "linux":
            # Who is at the limit of what all pipes of a user may hold gets what there is.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        log.write(b"")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._copy)

    def __enter__(self) -> LogPipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.writer)

    def _copy(self) -> None:
        try:
            data = os.read(self._reader, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if data:
            self._log.write(data)
            if self._also is not None:
                self._also(data)
            return
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._log.close()
