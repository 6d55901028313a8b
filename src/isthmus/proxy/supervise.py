"""The supervisor: keeps the control plane, the node agent, the Envoys and the local programs alive, and ends them.

``up`` runs it with a control plane of its own; a machine that only carries proxies runs it without.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.errors import IsthmusError, Unreachable
from isthmus.proxy.agent import EXIT_NOT_ENROLLED, node_file
from isthmus.proxy.child import Child, start_child
from isthmus.proxy.crew import Crew, CrewSettings
from isthmus.proxy.keep import BackOff, Kept, Say
from isthmus.proxy.plan import Plan, to_json
from isthmus.state import StateDir

CONTROL_PLANE = "control plane"
AGENT = "agent"
_EXIT_FAULT = 70
_FIRST_TRIES = 3
_GRACE = timedelta(seconds=5)
_TOKEN_SECONDS = 5.0
_REQUEST_SECONDS = 1.0
_PROGRAM_SECONDS = 0.1
_RECONNECT_SECONDS = 3.0
"""Envoys are back at their control plane in two."""

NextPlan = Callable[[int | None], Awaitable[Plan]]
"""Waits for a plan whose version is another than the given one. Raises IsthmusError or OSError: asked again."""
JoinToken = Callable[[str], Awaitable[str]]
"""A new one-use join token for the node. Raises IsthmusError or OSError: asked again."""
TellListening = Callable[[frozenset[str]], Awaitable[None]]
"""Hears whose programs (by sidecar) listen, whenever that changes. Raises IsthmusError or OSError: told again."""


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """What to run. ``control_plane`` (None: it is elsewhere) and ``agent`` are argument lists.

    Their standard input ends when the supervisor does, however it does: they must end then too.
    """

    crew: CrewSettings
    control_plane: tuple[str, ...] | None
    agent: tuple[str, ...]


class Supervisor:
    """:meth:`run` is its whole life, on the loop of the main thread."""

    def __init__(
        self,
        settings: SupervisorSettings,
        next_plan: NextPlan,
        join_token: JoinToken,
        say: Say,
        tell_listening: TellListening | None = None,
        leave: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``leave``: awaited at the end, before anything is drained: until callers know."""
        self._leave = leave
        self._tell_listening = tell_listening
        self._settings = settings
        self._next_plan = next_plan
        self._join_token = join_token
        self._say = say
        self._plan: Plan | None = None
        self._plan_of_start = 0
        """Which start of the control plane gave the last plan."""
        self._stopping = asyncio.Event()
        self._killed = asyncio.Event()
        self._failure = 0
        self._crew = Crew(settings.crew, say, self._tell_orphans)
        self._control_plane: Kept | None = None
        self._agent: Kept | None = None

    async def run(self) -> int:
        """Until :meth:`stop`, SIGINT or SIGTERM; a second signal ends everything at once.

        The exit code: 0, or the control plane's own if it ended before it gave a plan.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        self._start_control_plane()
        parts = (self._follow_plans(), self._stopping.wait(), self._watch_programs())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            await self._take_leave()
            await self._end_all()
            # The end of the control plane ends the request for the next plan by itself. One that is cancelled while its
            # answer arrives makes anyio complain (a future that is set after it was cancelled).
            if self._control_plane is not None:
                await asyncio.wait(tasks[:1], timeout=_REQUEST_SECONDS)
            for task in tasks:
                task.cancel()
            following, *_ = await asyncio.gather(*tasks, return_exceptions=True)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        if isinstance(following, Exception):
            raise following
        return self._failure

    def stop(self) -> None:
        """Drain and end; called again: at once."""
        if self._stopping.is_set():
            self.kill()
        self._stopping.set()

    def kill(self) -> None:
        """End every child at once."""
        self._killed.set()
        self._stopping.set()
        self._crew.kill()
        for kept in (self._agent, self._control_plane):
            if kept is not None:
                kept.kill()

    @property
    def pids(self) -> Mapping[str, int]:
        """What runs now: CONTROL_PLANE, AGENT, and what :attr:`Crew.pids` has."""
        own = (kept for kept in (self._control_plane, self._agent) if kept is not None)
        return {kept.name: kept.child.pid for kept in own if kept.child is not None} | dict(self._crew.pids)

    async def silent(self) -> tuple[str, ...]:
        """As :meth:`Crew.silent`."""
        return await self._crew.silent()

    async def _take_leave(self) -> None:
        """A second signal does not wait for it."""
        if self._leave is None:
            return
        parts = [asyncio.ensure_future(self._leave()), asyncio.create_task(self._killed.wait())]
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)

    async def _end_all(self) -> None:
        await self._crew.end()
        for kept in (self._agent, self._control_plane):
            if kept is not None:
                await kept.stop()

    async def _follow_plans(self) -> None:
        back_off = BackOff(first=0.2, last=2.0)
        while not self._stopping.is_set():
            try:
                plan = await self._next_plan(None if self._plan is None else self._plan.version)
            except (IsthmusError, OSError):
                # The control plane starts, or is away: its own end is told where it is seen. What runs goes on.
                await asyncio.sleep(back_off.pause(0))
                continue
            await self._until_callers_know(plan)
            if self._stopping.is_set():
                return
            back_off.reset()
            self._plan = plan
            if self._agent is None:
                self._agent = Kept(AGENT, self._start_agent, _stop_agent, self._say)
                self._agent.begin()
            else:
                self._tell_agent({"plan": to_json(plan.for_agent())})
            self._crew.follow(plan)

    async def _until_callers_know(self, plan: Plan) -> None:
        """Before what an edit removed while the control plane was away is ended, its callers connect and hear of it."""
        starts = self._control_plane.starts if self._control_plane is not None else 0
        before = self._plan.proxies if self._plan is not None else ()
        if starts != self._plan_of_start and {proxy.id for proxy in before} - {proxy.id for proxy in plan.proxies}:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _RECONNECT_SECONDS)
        self._plan_of_start = starts

    async def _watch_programs(self) -> None:
        """Tell whose programs listen: nobody is to be sent to one that does not yet."""
        told: frozenset[str] | None = None
        while self._tell_listening is not None and not self._stopping.is_set():
            with suppress(IsthmusError, OSError):
                if (found := await self._crew.listening()) != told:
                    await self._tell_listening(found)
                    told = found
            await asyncio.sleep(_PROGRAM_SECONDS)
        await self._stopping.wait()

    def _start_control_plane(self) -> None:
        argv = self._settings.control_plane
        if argv is None:
            return

        async def start(_last_code: int | None) -> Child:
            return await start_child(argv, stdin=asyncio.subprocess.PIPE, tied=False)

        kept = Kept(CONTROL_PLANE, start, lambda child: child.end(_GRACE), self._say, changed=self._look_at_first_end)
        self._control_plane = kept
        kept.begin()

    def _look_at_first_end(self) -> None:
        """A control plane that ends before it gave a plan has said why (broken manifests, a port in use): so do we.

        One that was killed has not, and may be luckier.
        """
        kept = self._control_plane
        if kept is None or kept.child is not None or self._plan is not None or self._stopping.is_set():
            return
        code = kept.last_code or 0
        if code < 0 and kept.starts < _FIRST_TRIES:
            return
        self._failure = code if code > 0 else _EXIT_FAULT
        kept.kill()
        self._stopping.set()

    async def _start_agent(self, last_code: int | None) -> Child:
        plan = self._plan
        assert plan is not None, "the agent is started with the first plan"
        token: str | None = None
        if last_code == EXIT_NOT_ENROLLED or self._state.read(node_file(plan.node)) is None:
            try:
                token = await asyncio.wait_for(self._join_token(plan.node), _TOKEN_SECONDS)
            except OSError as failed:
                raise Unreachable(f"no join token: {failed}") from failed
        child = await start_child(self._settings.agent, stdin=asyncio.subprocess.PIPE, tied=False)
        if token is not None:
            _tell(child, {"enrol": token})
        _tell(child, {"orphans": sorted(self._crew.pids.values()), "programs": dict(self._crew.programs)})
        _tell(child, {"plan": to_json((self._plan or plan).for_agent())})
        return child

    @property
    def _state(self) -> StateDir:
        return StateDir.at(self._settings.crew.folders.state)

    def _tell_orphans(self) -> None:
        """Keep the agent's list of what it must end if we are killed: systems without PR_SET_PDEATHSIG, and groups.

        And of whose program is which process: it gives each its own identity.
        """
        self._tell_agent({"orphans": sorted(self._crew.pids.values()), "programs": dict(self._crew.programs)})

    def _tell_agent(self, message: dict[str, Any]) -> None:
        if self._agent is not None and self._agent.child is not None:
            _tell(self._agent.child, message)


def _tell(child: Child, message: dict[str, Any]) -> None:
    if child.stdin is not None and not child.stdin.is_closing():
        child.stdin.write(json.dumps(message).encode() + b"\n")


async def _stop_agent(child: Child) -> int:
    if child.stdin is not None:
        child.stdin.close()
    return await child.end_by(_GRACE)
