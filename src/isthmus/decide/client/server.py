"""The process that says who clients are: ``envoy.service.auth.v3.Authorization`` on a Unix socket.

Settings: ``store`` (``{"url"}``, ``{"file": true}`` for that of this machine's own state, ``{"control_plane": true}``
for that of the control plane elsewhere; null: no policy takes API keys), ``consumers`` (by ``namespace/name``:
``groups``, ``plan``, ``certificates``), and ``introspection``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from isthmus.answering import Settings, answer
from isthmus.consumer.place import FILE
from isthmus.consumer.store import CredentialStore
from isthmus.consumer.wire import fingerprint
from isthmus.decide.client.check import UNAVAILABLE, Answer, Checker, ConsumerFacts
from isthmus.decide.client.fetch import HttpAsker
from isthmus.decide.client.introspection import Introspection, read_providers
from isthmus.decide.client.known import AWAY_SECONDS, POLL_SECONDS, KnownKeys
from isthmus.decide.client.remote import CHANNEL_OPTIONS, RemoteKeys
from isthmus.decide.client.store import StoreReader
from isthmus.decide.client.token import Tokens
from isthmus.decide.client.wire import build_answer, read_question
from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.errors import CredentialsOutOfReach, CredentialsUnavailable
from isthmus.model.key_lookup import SOCKET
from isthmus.state import StateDir

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.auth.v3.Authorization"
_AWAY = f"API keys that were not used here before are refused, and after {AWAY_SECONDS:.0f} s all of them"


class CredentialService:
    """What answers. :meth:`update` comes first."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._asker = HttpAsker()
        self._introspection = Introspection(self._asker, {})
        self._store: Mapping[str, Any] | None = None
        self._source = self._source_of({})
        self._keys = KnownKeys(self._source, time.monotonic)
        self._checker = Checker(self._keys, Tokens(self._introspection), {})
        self._told = ""
        self._ending: set[asyncio.Task[None]] = set()
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
            self._replace_store(settings["store"])
        providers = read_providers(settings["introspection"])
        self._introspection.learn(providers)
        self._checker.learn(
            {
                key: ConsumerFacts(tuple(one["groups"]), one["plan"], tuple(one["certificates"]))
                for key, one in settings["consumers"].items()
            }
        )

    def _replace_store(self, store: Mapping[str, Any] | None) -> None:
        """Whoever asks from now on asks the new one; the old one is closed when all who asked it have their answer."""
        ending = asyncio.create_task(_close_unused(self._keys, self._source))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._store = store
        self._source = self._source_of(store or {})
        named = fingerprint if isinstance(self._source, RemoteKeys) else str
        self._keys = KnownKeys(self._source, time.monotonic, named=named)
        self._checker.keys = self._keys

    async def close(self) -> None:
        self._following.cancel()
        for ending in tuple(self._ending):
            ending.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._source.close()
        await self._asker.close()

    def _source_of(self, store: Mapping[str, Any]) -> StoreReader | RemoteKeys:
        if store.get("control_plane"):
            target = f"unix:{StateDir.at(self._state).runtime / SOCKET}"
            return RemoteKeys(grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS))
        return StoreReader(partial(_open_store, store, self._state))

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
        except CredentialsOutOfReach as failed:
            return f"{_AWAY}: {failed}"
        except CredentialsUnavailable as failed:
            return f"no API key can be checked: {failed}"
        return ""

    def _say(self, problem: str) -> None:
        """Once when it begins, and once when it is over."""
        if problem and not self._told:
            logger.error("%s", problem)
        elif self._told and not problem:
            logger.warning("API keys are checked again")
        self._told = problem


def _open_store(store: Mapping[str, Any], state: Path) -> CredentialStore:
    """Raises CredentialsUnavailable."""
    if "url" in store:
        return CredentialStore.at_url(store["url"])
    if store.get("file"):
        return CredentialStore.at_file(state / FILE)
    raise CredentialsUnavailable("nobody said where they are")


async def _close_unused(keys: KnownKeys, source: StoreReader | RemoteKeys) -> None:
    try:
        await keys.unused()
    finally:
        await source.close()


def _metadata(context: Any) -> Mapping[str, str | bytes]:
    return dict(context.invocation_metadata())


async def start(settings: Settings, state: Path) -> CredentialService:
    """The service. Where the store does not answer it says so, refuses keys, and goes on."""
    service = CredentialService(state)
    await service.update(settings)
    return service


if __name__ == "__main__":
    answer(start)
