"""The limit service: descriptors to buckets, buckets to an answer. Without sockets and clocks."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from isthmus.limit.answer import Counted, answer
from isthmus.limit.count import Ask, Counter, Now, Uncounted
from isthmus.limit.definition import Definition, Definitions
from isthmus.limit.lease import Leases
from isthmus.model.limit import Concurrency

_LIMIT, _PLANS, _RELEASE, _LEASE = "limit", "plans", "release", "lease"
"""Keys of descriptors' entries (filters/limit_action.py, filters/global_limit.py)."""
_WAIT = timedelta(milliseconds=700)
"""Proxies may learn of a limit a moment before this service does."""
_DIGEST_BYTES = 16


class LimitService:
    """``memory``: what counts where there is no store; ``connect`` makes what counts in the Redis of a URL."""

    def __init__(self, memory: Counter, leases: Leases, connect: Callable[[str], Counter]) -> None:
        self._memory = memory
        self._leases = leases
        self._connect = connect
        self._known: dict[str, Definition] = {}
        self._shared: dict[str, Counter] = {}
        """By URL."""
        self._urls: Mapping[str, str] = {}
        self._changed = asyncio.Event()

    async def update(self, definitions: Definitions) -> None:
        """Limits that are gone stay known: a proxy may ask of one for a moment longer."""
        self._known.update(definitions.by_id)
        wanted = set(definitions.stores.values())
        for url in wanted - self._shared.keys():
            self._shared[url] = self._connect(url)
        self._urls = definitions.stores
        gone = [self._shared.pop(url) for url in self._shared.keys() - wanted]
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for counter in gone:
            await counter.close()

    async def close(self) -> None:
        for counter in self._shared.values():
            await counter.close()

    async def decide(self, request: Any, now: Now) -> tuple[Any, str | None]:
        """The answer to a RateLimitRequest, and the lease that it gives. Raises Uncounted."""
        asks = []
        for descriptor in request.descriptors:
            entries = [(entry.key, entry.value) for entry in descriptor.entries]
            if entries[0][0] == _RELEASE:
                self._leases.release(dict(entries)[_LEASE])
            elif (ask := await self._ask(entries)) is not None:
                asks.append(ask)
        leased = [ask for ask in asks if isinstance(ask.definition.amount, Concurrency)]
        counted = [ask for ask in asks if not isinstance(ask.definition.amount, Concurrency)]
        if not leased:
            return answer([one async for one in self._count(counted, now)]), None
        lease, verdicts = self._leases.acquire(leased, now.seconds)
        held = [Counted(ask, verdict) for ask, verdict in zip(leased, verdicts, strict=True)]
        if lease is None:
            return answer(held), None
        try:
            every = [*held, *[one async for one in self._count(counted, now)]]
        except BaseException:
            self._leases.release(lease)
            raise
        if any(one.refuses for one in every):
            self._leases.release(lease)
            return answer(every), None
        return answer(every, (request.domain, lease)), lease

    def release(self, lease: str) -> None:
        """As the proxy says it at the end of a request: who asked for it is gone."""
        self._leases.release(lease)

    async def _ask(self, entries: Sequence[tuple[str, str]]) -> Ask | None:
        """None: the limit is about other plans."""
        if entries[0][0] != _LIMIT:
            raise Uncounted(f"a descriptor begins with {entries[0][0]}")
        definition = await self._definition(entries[0][1])
        if definition.plans and dict(entries).get(_PLANS) not in definition.plans:
            return None
        written = json.dumps(entries, separators=(",", ":")).encode()
        return Ask(hashlib.blake2b(written, digest_size=_DIGEST_BYTES).hexdigest(), definition)

    async def _definition(self, name: str) -> Definition:
        if name not in self._known:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _WAIT.total_seconds())
        found = self._known.get(name)
        if found is None:
            raise Uncounted(f"no limit {name}")
        return found

    async def _count(self, asks: Sequence[Ask], now: Now) -> Any:
        for counter, some in self._by_counter(asks):
            verdicts = await counter.take(some, now)
            for ask, verdict in zip(some, verdicts, strict=True):
                yield Counted(ask, verdict)

    def _by_counter(self, asks: Sequence[Ask]) -> Iterator[tuple[Counter, list[Ask]]]:
        by_store: dict[str | None, list[Ask]] = {}
        for ask in asks:
            by_store.setdefault(ask.definition.store, []).append(ask)
        for store, some in by_store.items():
            url = None if store is None else self._urls.get(store)
            if store is not None and url is None:
                raise Uncounted(f"no URL of the store {store}")
            yield (self._memory if url is None else self._shared[url]), some
