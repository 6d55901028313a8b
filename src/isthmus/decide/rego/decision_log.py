"""Decisions told to a file and to servers, after they were answered: bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.event import Unmaskable, build_event, encode
from isthmus.decide.rego.fetch import DecisionPost
from isthmus.errors import RegoBundleRefused

logger = logging.getLogger(__name__)

_WAITING_BYTES: Final = 32 << 20
"""Of decisions that were not told yet, about."""
_UPLOAD_BYTES: Final = 16 << 20
"""Of events that wait for one server; the oldest go first."""
_CHUNK_BYTES: Final = 1 << 20
_GATHER_SECONDS: Final = 1.0
_FIRST_RETRY_SECONDS: Final = 0.5
_LONGEST_RETRY_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
_SAY_SECONDS: Final = 60.0
_LEAST_BYTES: Final = 4096
"""That a decision is counted as, beside its body."""

Write = Callable[[bytes], bool]
"""Appends a line to the file; false: it cannot take any more now."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Of one policy. ``url``: of the server; None: the file alone."""

    labels: Mapping[str, str]
    url: str | None = None
    token: str | None = field(default=None, repr=False)


def read_settings(told: Mapping[str, Any]) -> LogSettings:
    """As ``control/rego.py`` writes them."""
    return LogSettings(told.get("labels", {}), told.get("url"), told.get("token"))


class DecisionLogger:
    """Implements ``DecisionLog``. :meth:`run` tells what :meth:`log` takes."""

    def __init__(self, write: Write, post: DecisionPost, jitter: Callable[[], float]) -> None:
        """``jitter``: from 0 to 1."""
        self._write = write
        self._post = post
        self._jitter = jitter
        self._settings: Mapping[str, LogSettings] = {}
        self._waiting: deque[Decision] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self._uploads: dict[tuple[str, str | None], _Upload] = {}
        self.dropped = 0
        """Events that were lost since the start: nobody took them in time, or a policy's mask failed."""
        self._told_dropped = 0

    def follow(self, settings: Mapping[str, LogSettings]) -> None:
        """The policies, by ``namespace/name``, whose decisions are logged."""
        self._settings = settings

    def log(self, decision: Decision) -> None:
        """Take it, if its policy is logged and there is room."""
        if decision.policy not in self._settings:
            return
        size = _size(decision)
        if self._bytes + size > _WAITING_BYTES:
            self.dropped += 1
            return
        self._bytes += size
        self._waiting.append(decision)
        self._there.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._say())
            while True:
                await self._there.wait()
                self._there.clear()
                while self._waiting:
                    await self._tell(self._waiting[0], tasks)
                    self._bytes -= _size(self._waiting.popleft())

    async def drain(self, seconds: float) -> None:
        """Until all is told that was taken, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Looked at, not waited for: it is the last thing that the process does.
                while self._waiting or any(one.unsent for one in self._uploads.values()):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
                await asyncio.sleep(_LOOK_SECONDS)

    async def _tell(self, decision: Decision, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings.get(decision.policy)
        if settings is None:
            return
        lost = self.dropped - self._told_dropped
        try:
            # Apart: a mask may take long, and requests go first.
            line = await asyncio.to_thread(_line, decision, settings.labels, lost)
        except Unmaskable as fault:
            logger.error("RegoPolicy %s: a decision is not logged, its mask failed: %s", decision.policy, fault)
            self.dropped += 1
            return
        except (RecursionError, ValueError, TypeError) as fault:
            # What a client sent can be read and not written again: nested too deeply, for one.
            logger.error("RegoPolicy %s: a decision is not logged (%s)", decision.policy, type(fault).__name__)
            self.dropped += 1
            return
        if line is None:
            return
        if self._write(line + b"\n"):
            self._told_dropped += lost
        else:
            self.dropped += 1
        if settings.url is not None:
            self._upload(settings.url, settings.token, tasks).add(line)

    def _upload(self, url: str, token: str | None, tasks: asyncio.TaskGroup) -> _Upload:
        found = self._uploads.get((url, token))
        if found is None:
            found = self._uploads[url, token] = _Upload(url, token, self._post, self._jitter, self._lost)
            tasks.create_task(found.run())
        return found

    def _lost(self, events: int) -> None:
        self.dropped += events

    async def _say(self) -> None:
        said = 0
        while True:
            await asyncio.sleep(_SAY_SECONDS)
            if self.dropped != said:
                logger.warning("decision log: %d events were lost", self.dropped - said)
                said = self.dropped


class _Upload:
    """One server's events, in order."""

    def __init__(
        self, url: str, token: str | None, post: DecisionPost, jitter: Callable[[], float], lost: Callable[[int], None]
    ) -> None:
        self._url = f"{url.rstrip('/')}/logs"
        self._token = token
        self._post = post
        self._jitter = jitter
        self._lost = lost
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self._said = ""

    @property
    def unsent(self) -> bool:
        return self._there.is_set()

    def add(self, event: bytes) -> None:
        self._events.append(event)
        self._bytes += len(event)
        while self._bytes > _UPLOAD_BYTES:
            self._bytes -= len(self._events.popleft())
            self._lost(1)
        self._there.set()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._there.wait()
            if not failures:
                await asyncio.sleep(_GATHER_SECONDS)
            chunk = self._chunk()
            try:
                await self._post.post(self._url, self._token, b"[" + b",".join(chunk) + b"]")
            except RegoBundleRefused as fault:
                self._tell(f"not taken ({fault}), sent again")
                # What is sent again stands first, unless it grew too old meanwhile.
                self._events.extendleft(reversed(chunk))
                self._bytes += sum(map(len, chunk))
                back_off = min(_FIRST_RETRY_SECONDS * 2 ** min(failures, 16), _LONGEST_RETRY_SECONDS)
                failures += 1
                await asyncio.sleep(back_off * (0.5 + self._jitter() / 2))
                continue
            failures = 0
            self._tell("")
            if not self._events:
                self._there.clear()

    def _chunk(self) -> list[bytes]:
        chunk: list[bytes] = []
        room = _CHUNK_BYTES
        while self._events and (not chunk or len(self._events[0]) <= room):
            event = self._events.popleft()
            room -= len(event)
            self._bytes -= len(event)
            chunk.append(event)
        return chunk

    def _tell(self, what: str) -> None:
        if what != self._said:
            logger.warning("decision log %s: %s", self._url, what or "taken again")
            self._said = what


def _line(decision: Decision, labels: Mapping[str, str], lost: int) -> bytes | None:
    event = build_event(decision, labels, lost)
    return None if event is None else encode(event)


def _size(decision: Decision) -> int:
    """About, without looking at all of it."""
    document: Any = decision.input or {}
    for part in ("attributes", "request", "http"):
        document = document.get(part) if isinstance(document, dict) else None
    http = document if isinstance(document, dict) else {}
    body = http.get("body") or http.get("raw_body") or ""
    return _LEAST_BYTES + 3 * (len(body) if isinstance(body, str) else 0)
