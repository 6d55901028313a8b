"""The process that answers Envoys by Rego policies: ``envoy.service.auth.v3.Authorization`` on a Unix socket.

Settings: ``policies``, by ``namespace/name``, each ``{"path", "dry_run", "modules": [{"file", "text"}], "data"}``;
instead of modules and data ``"bundle"``, a digest or null; ``"log"`` as ``decision_log.read_settings`` takes it. A
policy that is new or changed is compiled aside and takes the place of the one before as a whole; one that cannot be
compiled does not, and denies if there was none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from isthmus.answering import Settings, answer
from isthmus.decide.rego.decider import Active, Checked, Decider
from isthmus.decide.rego.decision import DecisionLog
from isthmus.decide.rego.decision_log import DecisionLogger, read_settings
from isthmus.decide.rego.engine import compile_policy
from isthmus.decide.rego.fetch import HttpDecisionPost
from isthmus.decide.rego.load import examine_all
from isthmus.decide.rego.overrun import Evaluations
from isthmus.decide.rego.source import Module, Policy
from isthmus.decide.rego.store import BundleStore
from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.errors import PolicyBroken, RegoBundleRefused, StateUnusable
from isthmus.model.rego import POLICIES
from isthmus.state import StateDir

SERVICE = "envoy.service.auth.v3.Authorization"
logger = logging.getLogger(__name__)

_THREADS = 8
_THREADS_OF_ONE = 4
"""Of the policies of one place: what takes long, or never ends, must leave others some."""
_LOOK_SECONDS = 1.0
_WATCH_SECONDS = 0.2
_OVERRUN = 70
"""The process's exit code (EX_SOFTWARE)."""
_LAST_SECONDS = 1.5
"""For what is not logged yet when the process is to end."""
_UNWRITTEN_BYTES = 4 << 20


class RegoService:
    """What answers. :meth:`activate` is also for what is loaded from elsewhere."""

    def __init__(
        self, log: DecisionLog, store: BundleStore | None = None, logger: DecisionLogger | None = None
    ) -> None:
        """``store``: the bundles of this machine. ``logger``: told whose decisions are logged."""
        self.decider = Decider(time.time)
        self._log = log
        self._threads = ThreadPoolExecutor(_THREADS, "rego")
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._store = store
        self._logger = logger
        self._logging = asyncio.create_task(logger.run()) if logger is not None else None
        self._told: Mapping[str, Any] = {}
        self._loaded: dict[str, Mapping[str, Any]] = {}
        """Policies from bundles, and what was told of them when they were taken."""
        self._absent: set[str] = set()
        """Policies whose bundle was not here."""
        self._updating = asyncio.Lock()
        self._evaluations = Evaluations(time.monotonic)
        self._watching = asyncio.create_task(self._watch())
        self._looking = asyncio.create_task(self._look_again()) if store is not None else None

    @property
    def handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        method = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=ext_authz_service_v3.CheckRequest.FromString,
            response_serializer=ext_authz_service_v3.CheckResponse.SerializeToString,
        )
        return (grpc.method_handlers_generic_handler(SERVICE, {"Check": method}),)

    async def _check(self, request: Any, context: Any) -> Any:
        """A route says which policies hold; else the filter says it for its whole chain."""
        names = request.attributes.context_extensions.get(POLICIES)
        if not names:
            names = dict(context.invocation_metadata()).get(POLICIES, "")
        wanted = [name for name in names.split(",") if name]
        turn = self._turns.setdefault(names, asyncio.Semaphore(_THREADS_OF_ONE))
        await turn.acquire()
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._decide, wanted, request)
        # Who gives up waiting leaves a thread at work: the turn is over when that is.
        running.add_done_callback(lambda _: turn.release())
        checked = await asyncio.shield(running)
        for decision in checked.decisions:
            self._log.log(decision)
        return checked.response

    def _decide(self, wanted: Sequence[str], request: Any) -> Checked:
        with self._evaluations.one(", ".join(wanted)):
            return self.decider.check(wanted, request)

    async def _watch(self) -> None:
        """A thread cannot be ended, so the process is: whoever started it starts it again."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            # Compiling takes memory, too.
            why = self._evaluations.overrun(0 if self._updating.locked() else _resident())
            if why is not None:
                logger.error("%s: this process ends, and is started again", why)
                os._exit(_OVERRUN)

    async def update(self, settings: Settings) -> None:
        async with self._updating:
            await self._update(settings)
            self._evaluations.settled(_resident())

    async def _look_again(self) -> None:
        """For bundles that were not there when they were told of."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            async with self._updating:
                for name, policy in self._told.items():
                    if "bundle" in policy and self._missing(policy["bundle"], name):
                        await self._follow_bundle(name, policy)

    def _missing(self, digest: str | None, name: str) -> bool:
        """Whether it was not here, and has come meanwhile."""
        return digest is not None and name in self._absent and self._store is not None and self._store.has(digest)

    async def _update(self, settings: Settings) -> None:
        told: Mapping[str, Any] = settings.get("policies", {})
        if self._logger is not None:
            self._logger.follow({name: read_settings(one["log"]) for name, one in told.items() if "log" in one})
        kept = {name: active for name, active in self.decider.policies.items() if name in told}
        self.decider.policies = kept
        for name, policy in told.items():
            if "bundle" in policy:
                await self._follow_bundle(name, policy)
        await self._take_texts({name: policy for name, policy in told.items() if policy != self._told.get(name)})
        self._told = told

    async def _take_texts(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Those of manifests; what comes from a bundle was tried before anybody was given it."""
        sources = [(_source(name, policy), policy) for name, policy in told.items() if "modules" in policy]
        for source, _ in sources:
            # Should a bundle come back, it is another text than the one in force.
            self._loaded.pop(source.name, None)
        problems = await examine_all([(source, policy["path"]) for source, policy in sources])
        for (source, policy), problem in zip(sources, problems, strict=True):
            if problem is None:
                await self.activate(source.name, policy, source)
            else:
                self._refuse(source.name, policy, problem)

    def _refuse(self, name: str, policy: Mapping[str, Any], problem: str) -> None:
        """The one before stays; without one it denies."""
        logger.error("RegoPolicy %s: %s", name, problem)
        self._end_trial(name, policy)
        self.decider.policies = {
            name: Active(name, policy["path"], policy.get("dry_run", False)),
            **self.decider.policies,
        }

    def _end_trial(self, name: str, policy: Mapping[str, Any]) -> None:
        """A policy that is no longer on trial refuses from now on, whatever becomes of its new text."""
        before = self.decider.policies.get(name)
        if before is not None and before.dry_run and not policy.get("dry_run", False):
            self._replace(replace(before, dry_run=False))

    async def _follow_bundle(self, name: str, policy: Mapping[str, Any]) -> None:
        """The good one stays while another is not here; without any, and once it is taken back, nobody gets in."""
        digest: str | None = policy["bundle"]
        if digest is None or name not in self.decider.policies:
            self._replace(Active(name, policy["path"], policy.get("dry_run", False)))
            self._loaded.pop(name, None)
        self._end_trial(name, policy)
        if digest is None or self._store is None or self._loaded.get(name) == policy:
            return
        self._absent.discard(name)
        try:
            bundle = await asyncio.to_thread(self._store.bundle, digest)
        except (RegoBundleRefused, StateUnusable) as fault:
            logger.error("RegoPolicy %s: bundle %s: %s", name, digest[:12], fault)
            if not self._store.has(digest):
                self._absent.add(name)
            return
        if await self.activate(name, policy, bundle.policy(name, name)) is None:
            self._loaded[name] = policy

    def _replace(self, active: Active) -> None:
        self.decider.policies = {**self.decider.policies, active.name: active}

    async def activate(self, name: str, settings: Mapping[str, Any], source: Policy) -> str | None:
        """Compile ``source`` and let it decide; what was wrong with it, if it could not be compiled."""
        path, dry_run = settings["path"], settings.get("dry_run", False)
        try:
            engine = await asyncio.to_thread(compile_policy, source, (path,))
        except PolicyBroken as broken:
            self._refuse(name, settings, str(broken))
            return str(broken)
        self.decider.policies = {**self.decider.policies, name: Active(name, path, dry_run, source, engine)}
        return None

    async def close(self) -> None:
        if self._logger is not None:
            await self._logger.drain(_LAST_SECONDS)
        tasks = [task for task in (self._logging, self._looking, self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _source(name: str, policy: Mapping[str, Any]) -> Policy:
    modules = tuple(Module(one["file"], one["text"]) for one in policy["modules"])
    return Policy(name, modules, policy.get("data", {}))


async def start(settings: Settings, state: Path, events: int | None = None) -> RegoService:
    """The service with its policies compiled. ``events``: a pipe for the decision log, one line of JSON each."""
    write = await _lines_to(events) if events is not None else _nowhere
    decisions = DecisionLogger(write, HttpDecisionPost(), random.random)
    service = RegoService(decisions, BundleStore(StateDir.at(state)), decisions)
    await service.update(settings)
    return service


async def _lines_to(descriptor: int) -> Callable[[bytes], bool]:
    """Appends to a pipe whose reader may be slow, and never waits for it."""
    file = os.fdopen(descriptor, "wb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, file)

    def write(line: bytes) -> bool:
        if transport.is_closing() or transport.get_write_buffer_size() > _UNWRITTEN_BYTES:
            return False
        transport.write(line)
        return True

    return write


def _resident() -> int:
    """Bytes; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _nowhere(_line: bytes) -> bool:
    return True


def _keep_quiet() -> None:
    """``print`` of a policy writes to standard output, and what it prints is mostly what a client sent."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _pipe() -> int | None:
    """Standard output for the decision log alone, where it is a pipe."""
    return os.dup(1) if stat.S_ISFIFO(os.fstat(1).st_mode) else None


if __name__ == "__main__":
    _events = _pipe()
    _keep_quiet()
    answer(partial(start, events=_events))
