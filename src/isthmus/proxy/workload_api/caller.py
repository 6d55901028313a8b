"""Who is at the other end of a Unix socket: what the kernel says of the process, not what it says of itself (Linux).

Source of the selectors: SPIRE, doc/plugin_agent_workloadattestor_unix.md and …_systemd.md.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import NotEnrolled

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""
SO_PEERPIDFD = 77
"""asm-generic/socket.h, Linux 6.5: a pidfd of who connected, whatever became of its number since."""
_MOST_ANCESTORS = 256
_MOST_DIGESTS = 256
_PIECE = 1 << 20
_LARGEST_EXECUTABLE = 1 << 30
"""Bytes. No selector of a digest matches a larger one: anybody may call, with a file that takes an hour to read."""


class Peer:
    """The process that opened one connection, held so that its number cannot become another's while we look.

    To be made as soon as the connection is accepted, and closed with it.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Raises NotEnrolled: it is gone already."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, self.gid = _CREDENTIALS.unpack(raw)
        try:
            self._pidfd: int | None = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
        except OSError:
            self._pidfd = _open_pidfd(self.pid)

    @property
    def lives(self) -> bool:
        """Whether it still runs: what /proc says of its number is then of it."""
        if self._pidfd is None:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._pidfd = None


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as gone:
        raise NotEnrolled("the caller has ended") from gone


Process = tuple[int, int]
"""A process among all that ever had its number: the number, and when it began (in ticks since the system's start)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a process at one time. None: the system does not tell, so that no selector of it matches."""

    pid: int
    uid: int
    gid: int
    ancestors: tuple[Process, ...] = ()
    """Itself, its parent, that one's parent, and so on."""
    path: str | None = None
    sha256: str | None = None
    systemd_unit: str | None = None


class Attestor:
    """Collects what is to be known of callers. Digests of executables are kept as long as the file is the same."""

    def __init__(self) -> None:
        self._digests: OrderedDict[tuple[int, ...], str] = OrderedDict()

    def attest(self, peer: Peer, *, digest: bool) -> Caller:
        """``digest``: whether a selector asks for the executable's, which must be read for it.

        Reads files: not for the thread of an event loop. Raises NotEnrolled: the process ended meanwhile.
        """
        caller = Caller(
            peer.pid,
            peer.uid,
            peer.gid,
            ancestors_of(peer.pid),
            _path_of(peer.pid),
            self._digest_of(peer.pid) if digest else None,
            _unit_of(peer.pid),
        )
        if not peer.lives:
            raise NotEnrolled("the caller has ended")
        return caller

    def _digest_of(self, pid: int) -> str | None:
        try:
            # The file that runs, also where another one has its name by now.
            descriptor = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known = self._digests.pop(mark, None)
            if known is None and status.st_size > _LARGEST_EXECUTABLE:
                return None
            if known is None:
                digest = hashlib.sha256()
                while piece := file.read(_PIECE):
                    digest.update(piece)
                known = digest.hexdigest()
            self._digests[mark] = known
        if len(self._digests) > _MOST_DIGESTS:
            self._digests.popitem(last=False)
        return known


def ancestors_of(pid: int) -> tuple[Process, ...]:
    """``pid``, its parent, and so on up; no process can put itself below another that did not start it."""
    found: list[Process] = []
    while pid > 0 and len(found) < _MOST_ANCESTORS and (known := _stat_of(pid)) is not None:
        parent, began = known
        if (pid, began) in found:
            break
        found.append((pid, began))
        pid = parent
    return tuple(found)


def process_of(pid: int) -> Process | None:
    """The process that has this number now; None if there is none."""
    known = _stat_of(pid)
    return None if known is None else (pid, known[1])


def _stat_of(pid: int) -> tuple[int, int] | None:
    """Its parent, and when it began."""
    try:
        # The name in brackets may hold anything; what comes after it is proc_pid_stat(5)'s third field and on.
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(words[1]), int(words[19])
    except (OSError, IndexError, ValueError):
        return None


def _path_of(pid: int) -> str | None:
    """The executable's path, if the file of that name here is the very one that runs.

    In a mount namespace of its own a process can put any file at any path.
    """
    exe = f"/proc/{pid}/exe"
    try:
        path = os.readlink(exe)
        return path if os.path.samestat(os.stat(path), os.stat(exe)) else None
    except OSError:
        return None


def _unit_of(pid: int) -> str | None:
    try:
        return unit_in(Path(f"/proc/{pid}/cgroup").read_text())
    except (OSError, ValueError):
        return None


def unit_in(cgroups: str) -> str | None:
    """The unit of the system's manager in what /proc/PID/cgroup says; what is below it is for others to name."""
    lines = (line.split(":", 2) for line in cgroups.splitlines())
    paths = {words[1]: words[2] for words in lines if len(words) == 3}
    # cgroups(7): the one hierarchy of version 2, or the one that systemd keeps in version 1 and in mixed systems.
    path = paths.get("name=systemd") or paths.get("")
    if path is None:
        return None
    for name in path.split("/"):
        if name == "..":
            return None
        if name and not name.endswith(".slice"):
            return name if name.endswith((".service", ".scope")) else None
    return None
