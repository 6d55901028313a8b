"""The process of the limit service: ``python -m isthmus.limit.server``, told by the supervisor, asked by Envoys."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from isthmus.answering import Settings, answer
from isthmus.envoy_api.packages import ratelimit_service_v3
from isthmus.errors import StateUnusable
from isthmus.limit import calendar
from isthmus.limit.count import Counter, Nobody, Now, Uncounted
from isthmus.limit.definition import from_json
from isthmus.limit.lease import Leases
from isthmus.limit.memory import Memory, Used
from isthmus.limit.service import LimitService
from isthmus.limit.store import QuotaStore

logger = logging.getLogger(__name__)

_SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
_WRITE_SECONDS = 0.5
_SAY_SECONDS = 10.0


def _now() -> Now:
    return Now(time.monotonic(), datetime.now(UTC))


class LimitServer:
    """Envoy's RateLimitService over gRPC. What quotas use is written to the state twice a second."""

    def __init__(self, service: LimitService, memory: Memory, store: QuotaStore, kept: Iterable[str] = ()) -> None:
        """``kept``: the buckets that the store has."""
        self._service = service
        self._memory = memory
        self._store = store
        self._said = 0.0
        self._unwritten: dict[str, Used | None] = {}
        self._written = set(kept)
        self._writing = asyncio.create_task(self._write_often())

    @property
    def handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        method = grpc.unary_unary_rpc_method_handler(
            self._should_rate_limit,
            request_deserializer=ratelimit_service_v3.RateLimitRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        return (grpc.method_handlers_generic_handler(_SERVICE, {"ShouldRateLimit": method}),)

    async def update(self, settings: Settings) -> None:
        """As answering.Service; what cannot be read leaves what was known."""
        try:
            definitions = from_json(settings)
        except (KeyError, TypeError, ValueError) as broken:
            logger.warning("settings that cannot be read: %s", type(broken).__name__)
            return
        await self._service.update(definitions)

    async def close(self) -> None:
        self._writing.cancel()
        with suppress(asyncio.CancelledError):
            await self._writing
        self._write()
        await self._service.close()

    async def _should_rate_limit(self, request: Any, context: Any) -> Any:
        try:
            response, lease = await self._service.decide(request, _now())
        except Uncounted as fault:
            self._say(f"{fault}: what it is about passes or not as its policy says")
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(fault))
        if lease is not None:
            # Who is gone before it is told of its lease cannot give it back.
            context.add_done_callback(lambda done: self._service.release(lease) if done.cancelled() else None)
        return response

    async def _write_often(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            self._write()

    def _write(self) -> None:
        """What cannot be written now is written the next time."""
        for name, used in self._memory.changed().items():
            self._unwritten[name] = used
            if used is None and name not in self._written:
                # What was never written need not be removed: of a flood of names nothing is left to do.
                del self._unwritten[name]
        if not self._unwritten:
            return
        try:
            self._store.write(self._unwritten)
        except StateUnusable as fault:
            self._say(f"{fault}: quotas would be forgotten by a restart now")
            return
        self._written |= self._unwritten.keys()
        self._written -= {name for name, used in self._unwritten.items() if used is None}
        self._unwritten.clear()

    def _say(self, what: str) -> None:
        """Not for every request."""
        now = time.monotonic()
        if now - self._said >= _SAY_SECONDS:
            self._said = now
            logger.warning("%s", what)


def connect(url: str) -> Counter:
    """What counts in the Redis of ``url``; nothing connects before the first question."""
    try:
        from isthmus.limit.shared import SharedCounter  # its package is not everybody's
    except ImportError:
        return Nobody('the package redis is not installed: pip install "isthmus[redis]"')
    try:
        return SharedCounter(url, time.monotonic)
    except ValueError:
        return Nobody("the store's URL is none of a Redis: redis://, rediss:// or unix://")


async def start(settings: Settings, state: Path) -> LimitServer:
    """With what quotas had used before, if it can be read."""
    store = QuotaStore(state)
    kept: dict[str, Used] = {}
    try:
        store.forget(calendar.current(datetime.now(UTC)))
        kept = store.read()
    except StateUnusable as fault:
        logger.warning("%s: quotas begin anew", fault)
    memory = Memory(kept)
    leases = Leases(lambda: secrets.token_urlsafe(12))
    service = LimitService(memory, leases, connect)
    await service.update(from_json(settings))
    return LimitServer(service, memory, store, kept)


if __name__ == "__main__":
    answer(start)
