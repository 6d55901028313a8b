"""Local programs: the workloads that ``up`` starts beside their sidecars."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

from isthmus.errors import Refused
from isthmus.proxy.child import Child, Output, start_child
from isthmus.proxy.namespace import Namespace, listens
from isthmus.proxy.place import Folders, open_log
from isthmus.proxy.plan import PlannedWorkload

GRACE = timedelta(seconds=5)
"""From SIGTERM to SIGKILL."""
_LONGEST_LINE = 65536

Sink = Callable[[str], None]
"""Takes one line of output, without its end."""


class Lines:
    """Bytes in, whole lines out; a line over 64 KiB comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LONGEST_LINE:
            whole.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        return [line.rstrip(b"\r").decode(errors="replace") for line in whole]

    def end(self) -> list[str]:
        """What came after the last line end."""
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest else []


class LocalProgram:
    """Starts one workload's program; its output goes to ``sink``, prefixed, or else to its file under ``log/``."""

    def __init__(
        self, workload: PlannedWorkload, folders: Folders, sink: Sink | None, namespace: Namespace | None = None
    ) -> None:
        """``namespace``: its sidecar's and its own; None: the machine's."""
        self._workload = workload
        self._folders = folders
        self._sink = sink
        self._namespace = namespace
        self._pid: int | None = None
        self._copying: set[asyncio.Task[None]] = set()

    async def start(self, _last_code: int | None = None) -> Child:
        """Raises Refused, or OSError that names what is missing."""
        workload = self._workload
        if not workload.argv:
            raise Refused("no command")
        inside = None
        if self._namespace is not None:
            # Nor may it see the sockets and keys of the mesh, its own sidecar's among them: but for the Workload API,
            # which asks the kernel whom it answers.
            folders, shown = self._folders, (self._folders.workload_socket.parent,)
            inside = await self._namespace.inside(folders.state, folders.runtime, shown=shown)
        with ExitStack() as files:
            output: Output = asyncio.subprocess.PIPE
            if self._sink is None:
                output = files.enter_context(open_log(self._folders.output(workload.namespace, workload.name)))
            child = await start_child(
                workload.argv,
                env=workload.env,
                working_directory=workload.working_directory,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                inside=inside,
            )
        self._pid = child.pid
        if self._sink is not None and child.stdout is not None:
            task = asyncio.create_task(self._copy(child.stdout, self._sink))
            self._copying.add(task)
            task.add_done_callback(self._copying.discard)
        return child

    async def stop(self, child: Child) -> int:
        return await child.end(GRACE)

    async def listens(self) -> bool:
        """Whether somebody takes connections wherever the program is expected to."""
        for address in self._workload.listens:
            if self._namespace is not None:
                if self._pid is None or not listens(self._pid, address.port):
                    return False
                continue
            try:
                _, writer = await asyncio.open_connection(address.host, address.port)
            except OSError:
                return False
            writer.close()
        return True

    async def _copy(self, output: asyncio.StreamReader, sink: Sink) -> None:
        lines = Lines()
        while data := await output.read(_LONGEST_LINE):
            for line in lines.feed(data):
                sink(f"[{self._workload.name}] {line}")
        for line in lines.end():
            sink(f"[{self._workload.name}] {line}")
