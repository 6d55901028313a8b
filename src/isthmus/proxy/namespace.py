"""Network namespaces of workloads: made, held, entered. Linux, where it lets an ordinary user make them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from isthmus.errors import Refused
from isthmus.proxy import isolate
from isthmus.proxy.plan import Redirection

_MAKE = (sys.executable, "-I", "-S", isolate.__file__, "create")
_SECONDS = 10.0
_PEER = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""
_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (proc_pid_net(5))."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Where a program is to run: open descriptors of its user and network namespaces, and folders it shall not see."""

    user: int
    network: int
    hidden: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()
    """Folders within hidden ones that it shall see all the same."""

    @property
    def descriptors(self) -> tuple[int, int]:
        return self.user, self.network

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command that becomes ``argv`` there and ends with us; it needs :attr:`descriptors`."""
        folders = (*(("--hide", one) for one in self.hidden), *(("--show", one) for one in self.shown))
        options = (word for option, folder in folders if folder.is_dir() for word in (option, str(folder)))
        ours = (sys.executable, "-I", "-S", isolate.__file__, "enter", str(os.getpid()))
        return (*ours, *map(str, self.descriptors), *options, "--", *argv)

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


class Namespace:
    """A user and network namespace with a loopback interface alone. It lasts until :meth:`close` (or our end)."""

    def __init__(self, redirection: Redirection | None = None) -> None:
        """``redirection``: where connections are redirected in it. It is laid with the network, and stays."""
        self.redirection = redirection
        self._descriptors: tuple[int, int] | None = None
        self._making = asyncio.Lock()

    async def inside(self, *hidden: Path, shown: tuple[Path, ...] = ()) -> Inside:
        """To run a program there; made at the first call. Raises Refused with the reason if the system refuses."""
        async with self._making:
            if self._descriptors is None:
                self._descriptors = await _make(self.redirection)
        return Inside(*self._descriptors, hidden, shown)

    def close(self) -> None:
        """Let go: it ends with the last program in it."""
        if self._descriptors is not None:
            Inside(*self._descriptors).close()
        self._descriptors = None


async def _make(redirection: Redirection | None) -> tuple[int, int]:
    if sys.platform != "linux":
        raise Refused("there are network namespaces on Linux only")
    pipe = asyncio.subprocess.PIPE
    ports = (redirection.connections, redirection.names) if redirection is not None else ()
    argv = (*_MAKE, *map(str, ports))
    maker = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)
    assert maker.stdin is not None, "pipes were asked for"
    assert maker.stdout is not None, "pipes were asked for"
    assert maker.stderr is not None, "pipes were asked for"
    try:
        said = await asyncio.wait_for(maker.stdout.readline(), _SECONDS)
        if said.decode().strip() != isolate.READY:
            raise Refused((await maker.stderr.read()).decode(errors="replace").strip() or "no namespace was made")
        return of_process(maker.pid)
    except TimeoutError:
        maker.kill()
        raise Refused(f"no namespace was made in {_SECONDS:g} s") from None
    finally:
        maker.stdin.close()
        await maker.wait()


def of_process(pid: int) -> tuple[int, int]:
    """Open descriptors of the user and network namespace of ``pid``. Raises Refused if we may not have them."""
    try:
        folder = os.open(f"/proc/{pid}/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Both or neither: who may open the one may open the other.
            return _open_at(folder, "user"), _open_at(folder, "net")
        finally:
            os.close(folder)
    except OSError as failed:
        raise Refused(f"the namespaces of process {pid} cannot be entered: {failed.strerror}") from failed


def _open_at(folder: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)


def inside_of(unix_socket: Path, *hidden: Path, shown: tuple[Path, ...] = ()) -> Inside | None:
    """Where the listener of a Unix socket is; None: in the same network as we are. Raises OSError, Refused."""
    pid = _listener_of(unix_socket)
    found = Inside(*of_process(pid), hidden, shown)
    if os.path.samestat(os.fstat(found.network), os.stat("/proc/self/ns/net")):
        found.close()
        return None
    return found


def _listener_of(unix_socket: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(unix_socket))
        peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid: int = _PEER.unpack(peer)[0]
    return pid


def listens(pid: int, port: int) -> bool:
    """Whether somebody in the network of process ``pid`` listens on TCP ``port`` (Linux)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


async def refusal(hidden: Path, within: timedelta = timedelta(seconds=_SECONDS)) -> str | None:
    """Why a program cannot have a namespace of its own here, by trying all of it once; None: it can.

    ``hidden``: a folder to try hiding. Systems differ in the step that they refuse: Ubuntu's AppArmor lets the
    namespace be made and takes away what could be done in it, a container's seccomp knows no unshare(2) at all.
    """
    namespace = Namespace()
    try:
        inside = await namespace.inside(hidden)
        trying = await asyncio.create_subprocess_exec(
            *inside.wrap((sys.executable, "-I", "-S", "-c", "")),
            pass_fds=inside.descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
        )
        _, said = await asyncio.wait_for(trying.communicate(), within.total_seconds())
        if trying.returncode == 0:
            return None
        return said.decode(errors="replace").strip() or f"ended with exit code {trying.returncode}"
    except (Refused, OSError, TimeoutError) as failed:
        return str(failed) or "no answer in time"
    finally:
        namespace.close()


async def redirection_refusal() -> str | None:
    """Why connections cannot be redirected in a network of one's own here, by trying it once; None: they can."""
    namespace = Namespace(Redirection(connections=15006, names=15053))
    try:
        (await namespace.inside()).close()
    except (Refused, OSError) as failed:
        return str(failed)
    return None


@dataclass(frozen=True, slots=True)
class Refusals:
    """Why this system lets no program have a network of its own, or its calls redirected in it; None: it does."""

    isolation: str | None
    redirection: str | None


async def refusals_once(runtime: Path) -> Refusals:
    """What the system says, asked once for all lives of a process: kept in the runtime folder, written whole."""
    isolation = await _once(runtime, "isolation", lambda: refusal(runtime))
    return Refusals(isolation, isolation or await _once(runtime, "redirection", redirection_refusal))


async def _once(runtime: Path, about: str, ask: Callable[[], Awaitable[str | None]]) -> str | None:
    told = runtime / about
    if not told.exists():
        fresh = runtime / f"{about}.new"
        fresh.touch(mode=0o600)
        fresh.write_text(await ask() or "")
        fresh.replace(told)
    return told.read_text() or None
