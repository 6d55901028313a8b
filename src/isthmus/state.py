"""The state directory: private files, one holder at a time, and a short runtime folder for its Unix sockets."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from isthmus.errors import StateHeld, StateUnusable

SOCKET_PATH_MAX_BYTES = 103
"""``sun_path`` is 108 bytes on Linux and 104 on macOS, both with a closing zero: this fits everywhere."""

_SOCKET_NAME_MAX_BYTES = 40
"""Room that a runtime folder leaves for the names in it."""

_MARK = b"# The state of Isthmus, keys among it: never to be committed.\n*\n"
_RUNTIME_PREFIX = "isthmus-"
_WORKLOAD_LINK = "workload.sock"
_WORKLOAD_SOCKET = "workload/api.sock"
"""The SPIFFE Workload API, for people; within the runtime folder it has one of its own."""

_MAY_COME_BEFORE_US = frozenset({"ca"})
"""What a user may have put into the directory before the first start: a certificate authority of their own."""


def is_state(folder: str | os.PathLike[str]) -> bool:
    """Whether ``folder`` is a state directory, by the mark that :meth:`StateDir.open` leaves there."""
    try:
        return (Path(folder) / ".gitignore").read_bytes() == _MARK
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class StateDir:
    """The state directory at ``path`` (absolute). Making the value touches nothing: :meth:`open` does.

    Every failing file operation raises StateUnusable, with the path and the reason.
    """

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> StateDir:
        return cls(Path(path).absolute())

    def open(self) -> Self:
        """Make the directory (0700, with its own .gitignore) where it is missing.

        Raises StateUnusable: it cannot be made, or it is a folder with other things in it, which would become
        unreadable to others and invisible to git.
        """
        with _failing_as_unusable(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists() or ignore.read_bytes() != _MARK:
                names = {entry.name for entry in self.path.iterdir()} - _MAY_COME_BEFORE_US
                # What a crash in the middle of writing our own mark leaves is no stranger.
                strangers = {name for name in names if not name.startswith("..gitignore.")}
                if strangers:
                    raise StateUnusable(f"{self.path}: not a state directory of Isthmus: it holds {min(strangers)!r}")
            self.path.chmod(0o700)
            if not ignore.exists():
                self.write_private(".gitignore", _MARK)
        return self

    def within(self, name: str) -> Path:
        """The path of a file of the state. Raises ValueError for one that leads out of it."""
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ValueError(f"not a name within the state directory: {name!r}")
        return self.path / relative

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if there is none."""
        path = self.within(name)
        with _failing_as_unusable(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write_private(self, name: str, data: bytes) -> None:
        """Write a file of mode 0600, whole or not at all: a crash leaves the old one or the new one, on the disk."""
        path = self.within(name)
        with _failing_as_unusable(path):
            self._make_folder(path.parent)
            temporary = _beside(path)
            try:
                _write_synced(temporary, data)
                temporary.rename(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    def write_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Make a folder with all of ``files`` (0600) in one step. The folder must be missing or empty."""
        path = self.within(name)
        with _failing_as_unusable(path):
            self._make_folder(path.parent)
            temporary = _beside(path)
            try:
                temporary.mkdir(mode=0o700)
                for file, data in files.items():
                    _write_synced(temporary / file, data)
                _sync_folder(temporary)
                temporary.rename(path)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            _sync_folder(path.parent)

    def move(self, name: str, to: str) -> None:
        """Rename a file of the state over another of the same folder."""
        path, target = self.within(name), self.within(to)
        with _failing_as_unusable(path):
            path.rename(target)
            _sync_folder(target.parent)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no fault."""
        path = self.within(name)
        with _failing_as_unusable(path):
            path.unlink(missing_ok=True)

    def lock(self, purpose: str) -> Lock:
        """Take the state for this process alone, until :meth:`Lock.release` or the end of the process.

        ``purpose`` (``up``, ``serve``) is told to whoever comes second. Raises StateHeld, with the holder's pid.
        Only the process itself counts: programs it starts do not inherit the lock.
        """
        path = self.path / "lock"
        with _failing_as_unusable(path):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_still(path, descriptor):
                        os.truncate(descriptor, 0)
                        os.pwrite(descriptor, f"{os.getpid()} {purpose}\n".encode(), 0)
                        return Lock(path, purpose, descriptor)
                except BlockingIOError:
                    holder = _holder(descriptor)
                    os.close(descriptor)
                    raise StateHeld(f"{self.path} is held by {holder}") from None
                except BaseException:
                    os.close(descriptor)
                    raise
                # The last holder removed the file between our open and our flock: there is a newer one.
                os.close(descriptor)

    def hold(self, purpose: str) -> Held:
        """Open the state, lock it, and make its runtime folder, after clearing away what a dead holder left.

        For the one process at the top (``up``, ``serve``); its children only :meth:`open` the state.
        """
        lock = self.open().lock(purpose)
        try:
            with _failing_as_unusable(self.path):
                self._clear_links()
                held = Held(self, _make_runtime_folder(), lock)
        except BaseException:
            lock.release()
            raise
        try:
            with _failing_as_unusable(self.path):
                (self.path / "run").symlink_to(held.runtime)
                (self.path / "api.sock").symlink_to(held.runtime / "api.sock")
                (self.path / _WORKLOAD_LINK).symlink_to(held.runtime / _WORKLOAD_SOCKET)
        except BaseException:
            held.release()
            raise
        return held

    def sweep(self) -> None:
        """Remove what a holder that was killed left: its links, runtime folder and lock. Raises StateHeld if one is."""
        with self.lock("sweep"), _failing_as_unusable(self.path):
            self._clear_links()

    @property
    def runtime(self) -> Path:
        """The runtime folder of whoever holds the state. Raises StateUnusable if nobody does."""
        with _failing_as_unusable(self.path / "run"):
            return (self.path / "run").readlink()

    @property
    def api_socket(self) -> Path:
        """Where the API's Unix socket is, or would be: a path short enough for one, whatever the state's own is."""
        try:
            return (self.path / "api.sock").readlink()
        except OSError:
            return self.path / "api.sock"

    def _make_folder(self, folder: Path) -> None:
        # mkdir(parents=True) would give the folders between the process's umask, not 0700.
        for parent in reversed(folder.relative_to(self.path).parents):
            (self.path / parent).mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)

    def _clear_links(self) -> None:
        """Remove the links of the last holder, and its runtime folder where it had no time to."""
        for name in ("run", "api.sock", _WORKLOAD_LINK):
            link = self.path / name
            if link.is_symlink():
                if name == "run":
                    _remove_runtime_folder(link.readlink())
                link.unlink()


@dataclass(slots=True)
class Lock:
    """The held lock of a state directory; a context manager that releases it."""

    path: Path
    purpose: str
    _descriptor: int | None

    @property
    def still_there(self) -> bool:
        """Whether the file that is locked still has its name."""
        return self._descriptor is not None and _is_still(self.path, self._descriptor)

    def take_over(self, newer: Lock) -> None:
        """Hold ``newer``, for a file that somebody removed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, newer._descriptor = newer._descriptor, None

    def release(self) -> None:
        """Let the state go. Once is enough; a second time does nothing."""
        if self._descriptor is None:
            return
        # Removed while still locked, so that nobody can hold a file that has lost its name.
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class Held:
    """A state that this process holds. ``runtime``: a new folder, 0700, with a path short enough for Unix sockets."""

    state: StateDir
    runtime: Path
    lock: Lock

    def restore(self) -> bool:
        """Make again what somebody removed while we hold it: the directory, its links, the lock; say whether so.

        What was in the files is gone. Raises StateUnusable; StateHeld if another process took what was free.
        """
        if self.lock.still_there and (self.state.path / "run").is_symlink():
            return False
        with _failing_as_unusable(self.state.path):
            self.state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.state.path.chmod(0o700)
        self.state.write_private(".gitignore", _MARK)
        if not self.lock.still_there:
            self.lock.take_over(self.state.lock(self.lock.purpose))
        with _failing_as_unusable(self.state.path):
            links = (("run", self.runtime), ("api.sock", self.runtime / "api.sock"))
            for name, target in (*links, (_WORKLOAD_LINK, self.runtime / _WORKLOAD_SOCKET)):
                link = self.state.path / name
                if not link.is_symlink():
                    link.symlink_to(target)
        return True

    def release(self) -> None:
        """Remove the runtime folder with all that is in it, and let the state go."""
        try:
            with _failing_as_unusable(self.state.path):
                # Ours by name, whatever became of the links: the user may have removed the whole state.
                _remove_runtime_folder(self.runtime)
                self.state._clear_links()
        finally:
            self.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


@contextlib.contextmanager
def _failing_as_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateUnusable(f"{error.filename or path}: {error.strerror or error}") from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _write_synced(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    # A holder writes its pid right after it has the lock: an empty file means now.
    for _ in range(10):
        words = os.pread(descriptor, 200, 0).decode(errors="replace").split()
        if words:
            return f"process {words[0]} ({' '.join(words[1:])})"
        time.sleep(0.02)
    return "another process"


def _make_runtime_folder() -> Path:
    """In $XDG_RUNTIME_DIR, or in /tmp where that is missing or leaves no room for a socket's name."""
    room = SOCKET_PATH_MAX_BYTES - _SOCKET_NAME_MAX_BYTES - len("/" + _RUNTIME_PREFIX + "12345678/")
    wanted = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(wanted) and len(os.fsencode(wanted)) <= room and os.access(wanted, os.W_OK | os.X_OK):
        return Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=wanted))
    # Not $TMPDIR: on macOS that is a long path. mkdtemp makes a name nobody can guess, mode 0700.
    return Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir="/tmp"))


def _remove_runtime_folder(folder: Path) -> None:
    """Remove ``folder`` if it is one that :func:`_make_runtime_folder` makes: the link may have been tampered with."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    ours = folder.is_absolute() and folder.name.startswith(_RUNTIME_PREFIX) and status.st_uid == os.geteuid()
    if ours and folder.is_dir() and not folder.is_symlink() and status.st_mode & 0o077 == 0:
        shutil.rmtree(folder)
