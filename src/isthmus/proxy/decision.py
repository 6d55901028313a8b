"""One decision process of this node: what starts it, tells it what to know, and ends it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

from isthmus.model.decision import DecisionService
from isthmus.proxy.child import Child, start_child
from isthmus.proxy.complaint import Complaints
from isthmus.proxy.keep import Say
from isthmus.proxy.log import LogPipe, Logs
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import PlannedService

_GRACE = timedelta(seconds=4)


class DecisionProgram:
    """``planned``: the first of what it is told; later settings come by :meth:`takes`.

    ``say`` gets what the first process of a service complains of; its others would say the same.
    """

    def __init__(self, planned: PlannedService, folders: Folders, logs: Logs, say: Say) -> None:
        self._planned = planned
        self._folders = folders
        self._logs = logs
        self._say = say
        self._child: Child | None = None

    def takes(self, planned: PlannedService) -> bool:
        """Tell it the settings of ``planned``, if they are new; false: it would have to be another program."""
        if planned.module != self._planned.module:
            return False
        if planned.settings != self._planned.settings:
            self._planned = planned
            self._tell({"settings": json.loads(planned.settings)})
        return True

    async def start(self, _last_code: int | None = None) -> Child:
        """Raises OSError."""
        planned = self._planned
        argv = (sys.executable, "-m", planned.module)
        path = self._folders.log(planned.name)
        complaints = Complaints(lambda what: self._say(planned.name, what), path) if planned.index == 0 else None
        with self._logs.open(path, complaints) as log, self._output(planned, log) as output:
            self._child = await start_child(
                argv, stdin=asyncio.subprocess.PIPE, stdout=output.writer, stderr=log.writer, tied=False
            )
        socket = self._folders.decision_socket(planned.service, planned.index)
        state = str(self._folders.state)
        self._tell({"socket": str(socket), "state": state, "settings": json.loads(self._planned.settings)})
        return self._child

    def _output(self, planned: PlannedService, log: LogPipe) -> AbstractContextManager[LogPipe]:
        """Its log once more, but of Rego: what that prints are its decisions, where policies ask for them."""
        if planned.service is not DecisionService.REGO:
            return nullcontext(log)
        return self._logs.open(self._folders.decision_log(planned.name))

    @property
    def listens(self) -> bool:
        return self._folders.decision_socket(self._planned.service, self._planned.index).is_socket()

    async def stop(self, child: Child) -> int:
        """It ends with its standard input."""
        if child.stdin is not None:
            child.stdin.close()
        return await child.end_by(_GRACE)

    def _tell(self, message: dict[str, object]) -> None:
        child = self._child
        if child is not None and child.stdin is not None and not child.stdin.is_closing():
            child.stdin.write(json.dumps(message).encode() + b"\n")
