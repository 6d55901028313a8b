"""The process that says who clients are: ``envoy.service.auth.v3.Authorization`` on a Unix socket.

Settings: ``store`` (``{"url"}``, ``{"file": true}`` for that of this machine's own state, ``{}``: it cannot be reached
from here; null: no policy takes API keys), ``consumers`` (by ``namespace/name``: ``groups``, ``plan``,
``certificates``), and ``introspection``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import grpc

from isthmus.answering import Settings, answer
from isthmus.consumer.place import FILE
from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.consumer.store import CredentialStore
from isthmus.decide.client.check import UNAVAILABLE, Answer, Checker, ConsumerFacts
from isthmus.decide.client.fetch import HttpAsker
from isthmus.decide.client.introspection import Introspection, read_providers
from isthmus.decide.client.known import POLL_SECONDS, KnownKeys
from isthmus.decide.client.token import Tokens
from isthmus.decide.client.wire import build_answer, read_question
from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.errors import CredentialsUnavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

SERVICE = "envoy.service.auth.v3.Authorization"
_LONGEST = 1.5
"""Seconds that a question to the store may take."""
_AT_ONCE = 4
_NOT_FROM_HERE = (
    "the credentials are in a file on the control plane's machine: API keys are refused here; put them into PostgreSQL "
    "(isthmus consumer store)"
)


class StoreReader:
    """The store, asked by threads of its own. What cannot be opened is tried again with the next question."""

    def __init__(self, store: Mapping[str, Any], state: Path) -> None:
        self._store, self._state = store, state
        self._opened: CredentialStore | None = None
        self._opening = Lock()
        self._threads = ThreadPoolExecutor(_AT_ONCE, "store")

    async def find(self, key_id: str) -> KeyRecord | None:
        return await self._ask(lambda store: store.find(key_id))

    async def position(self) -> Position:
        return await self._ask(lambda store: store.position())

    async def changes(self, since: Position) -> Changes:
        return await self._ask(lambda store: store.changes(since))

    def close(self) -> None:
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
                if "url" in self._store:
                    self._opened = CredentialStore.at_url(self._store["url"])
                elif self._store.get("file"):
                    self._opened = CredentialStore.at_file(self._state / FILE)
                else:
                    raise CredentialsUnavailable(_NOT_FROM_HERE)
            return self._opened


class CredentialService:
    """What answers. :meth:`update` comes first."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._asker = HttpAsker()
        self._introspection = Introspection(self._asker, {})
        self._store: Mapping[str, Any] | None = None
        self._reader = StoreReader({}, state)
        self._keys = KnownKeys(self._reader, time.monotonic)
        self._checker = Checker(self._keys, Tokens(self._introspection), {})
        self._told = ""
        self._following = asyncio.create_task(self._keep_following())

    @property
    def handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        method = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=ext_authz_service_v3.CheckRequest.FromString,
            response_serializer=ext_authz_service_v3.CheckResponse.SerializeToString,
        )
        return (grpc.method_handlers_generic_handler(SERVICE, {"Check": method}),)

    async def update(self, settings: Settings) -> None:
        if settings["store"] != self._store:
            self._reader.close()
            self._store = settings["store"]
            self._reader = StoreReader(self._store or {}, self._state)
            self._keys = KnownKeys(self._reader, time.monotonic)
            self._checker.keys = self._keys
        providers = read_providers(settings["introspection"])
        self._introspection.learn(providers)
        self._checker.learn(
            {
                key: ConsumerFacts(tuple(one["groups"]), one["plan"], tuple(one["certificates"]))
                for key, one in settings["consumers"].items()
            }
        )

    async def close(self) -> None:
        self._following.cancel()
        self._reader.close()
        await self._asker.close()

    async def _check(self, request: Any, context: Any) -> Any:
        try:
            question = read_question(request, _metadata(context) if not request.attributes.context_extensions else {})
        except ValueError as broken:
            logger.error("a question that says nothing: %s", broken)
            return build_answer(Answer(UNAVAILABLE))
        return build_answer(await self._checker.check(question, datetime.now(UTC)))

    async def _keep_following(self) -> None:
        while True:
            if self._store is not None:
                self._say(await self._look())
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self) -> str:
        try:
            await self._keys.look()
        except CredentialsUnavailable as failed:
            return str(failed)
        return ""

    def _say(self, problem: str) -> None:
        """Once when it begins, and once when it is over."""
        if problem and not self._told:
            logger.error("no API key can be checked: %s", problem)
        elif self._told and not problem:
            logger.warning("API keys are checked again")
        self._told = problem


def _metadata(context: Any) -> Mapping[str, str | bytes]:
    return dict(context.invocation_metadata())


async def start(settings: Settings, state: Path) -> CredentialService:
    """The service. Where the store does not answer it says so, refuses keys, and goes on."""
    service = CredentialService(state)
    await service.update(settings)
    return service


if __name__ == "__main__":
    answer(start)
