"""The store of API keys, asked without holding up others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.errors import CredentialsUnavailable

if TYPE_CHECKING:
    # Its library is a tenth of a second of every start; a control plane may never be asked for a key.
    from isthmus.consumer.store import CredentialStore

T = TypeVar("T")

_LONGEST = 1.5
"""Seconds that a question to the store may take."""
_AT_ONCE = 4


class StoreReader:
    """The store, asked by threads of its own. What cannot be opened is tried again with the next question.

    Every question raises CredentialsUnavailable, as ``open_store`` does, which is called on one of the threads.
    """

    def __init__(self, open_store: Callable[[], CredentialStore]) -> None:
        self._open_store = open_store
        self._opened: CredentialStore | None = None
        self._opening = Lock()
        self._threads = ThreadPoolExecutor(_AT_ONCE, "store")

    async def find(self, key_id: str) -> KeyRecord | None:
        return await self._ask(lambda store: store.find(key_id))

    async def position(self) -> Position:
        return await self._ask(lambda store: store.position())

    async def changes(self, since: Position) -> Changes:
        return await self._ask(lambda store: store.changes(since))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._opened is not None:
            self._opened.close()

    async def _ask(self, question: Callable[[CredentialStore], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._threads, lambda: question(self._open()))
        try:
            return await asyncio.wait_for(running, _LONGEST)
        except TimeoutError:
            raise CredentialsUnavailable(f"the store did not answer within {_LONGEST} s") from None

    def _open(self) -> CredentialStore:
        with self._opening:
            if self._opened is not None and self._opened.replaced:
                self._opened.close()
                self._opened = None
            if self._opened is None:
                self._opened = self._open_store()
            return self._opened
