"""One child process: started so that it ends with us, ended together with what it started itself."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO

from isthmus.proxy import tied as tied_program
from isthmus.proxy.namespace import Inside

Output = int | IO[bytes] | None
"""As for ``subprocess``: a constant, an open file, or None for our own."""


class Child:
    """A running process and its process group."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._process.stdout

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end; what is left of its group then ends too."""
        code = await self._process.wait()
        self._signal(signal.SIGKILL)
        return code

    async def end(self, grace: timedelta) -> int:
        """SIGTERM to the group, SIGKILL after ``grace``."""
        self._signal(signal.SIGTERM)
        return await self.end_by(grace)

    async def end_by(self, grace: timedelta) -> int:
        """Wait for an end that was asked for; SIGKILL after ``grace``."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.wait()), grace.total_seconds())
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        signal_group(self.pid, number)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send to the process group of ``pid``, if anything of it is left."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group that consists of zombies.
        return


def group_lives(pid: int) -> bool:
    """Whether anything of the process group of ``pid`` is left."""
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def start_child(
    argv: tuple[str, ...],
    *,
    env: Mapping[str, str] | None = None,
    working_directory: str | Path | None = None,
    stdin: Output = asyncio.subprocess.DEVNULL,
    stdout: Output = None,
    stderr: Output = None,
    tied: bool = True,
    inside: Inside | None = None,
) -> Child:
    """Start ``argv`` in a process group of its own: Ctrl-C of the terminal reaches us alone, and we drain first.

    ``env`` is added to our own environment. ``tied``: gets SIGTERM when we die, however we die, where the system can do
    that; what reads its standard input to the end needs no such tie. ``inside``: namespaces of its own, and tied too.
    Raises OSError if the program or the folder is not there.
    """
    environment = None if env is None else {**os.environ, **env}
    check_program(argv[0], working_directory, os.environ if environment is None else environment)
    return Child(
        await asyncio.create_subprocess_exec(
            *(inside.wrap(argv) if inside is not None else _tied(argv) if tied else argv),
            env=environment,
            cwd=working_directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
            pass_fds=() if inside is None else inside.descriptors,
        )
    )


def _tied(argv: tuple[str, ...]) -> tuple[str, ...]:
    """asyncio starts processes on the thread of the loop, which must be the main one: Linux looks at that thread.

    Elsewhere the agent ends what a dead supervisor left.
    """
    if sys.platform != "linux":
        return argv
    return (sys.executable, "-I", "-S", tied_program.__file__, str(os.getpid()), *argv)


def check_program(program: str, working_directory: str | Path | None, env: Mapping[str, str]) -> None:
    """Say what is missing in words that name it: raises FileNotFoundError, or PermissionError for no program."""
    folder = Path(working_directory or ".")
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to start in", str(folder))
    path = program if os.path.isabs(program) or os.sep not in program else str(folder / program)
    if os.sep in program and os.path.isfile(path) and not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, "may not be executed", program)
    if shutil.which(path, path=env.get("PATH", os.defpath)) is None:
        raise FileNotFoundError(errno.ENOENT, "no such program", program)
