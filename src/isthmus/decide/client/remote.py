"""API keys where the store is the control plane's: asked by way of the node's supervisor, which has the identity."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.consumer.wire import decode_changes, decode_record, encode_position
from isthmus.errors import CredentialsOutOfReach, CredentialsUnavailable
from isthmus.model.key_lookup import CHANGES, FIND, method_path

_LONGEST = 1.0
"""Seconds that a question may take."""
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""Nobody answers; every other failure is an answer."""
CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class RemoteKeys:
    """A ``KeySource``. Its changes name keys by :func:`isthmus.consumer.wire.fingerprint`.

    Each question raises CredentialsOutOfReach (nobody answers) or CredentialsUnavailable (the answer is no).
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._find = channel.unary_unary(method_path(FIND))
        self._changes = channel.unary_unary(method_path(CHANGES))

    async def find(self, key_id: str) -> KeyRecord | None:
        answer = await self._ask(self._find, key_id.encode())
        try:
            found = decode_record(answer)
        except ValueError as broken:
            raise CredentialsUnavailable(f"the control plane's answer cannot be read: {broken}") from broken
        if found is not None and found.id != key_id:
            raise CredentialsUnavailable("the control plane answered with another key")
        return found

    async def position(self) -> Position:
        return (await self._changed(None)).position

    async def changes(self, since: Position) -> Changes:
        return await self._changed(since)

    async def close(self) -> None:
        await self._channel.close(None)

    async def _changed(self, since: Position | None) -> Changes:
        answer = await self._ask(self._changes, encode_position(since))
        try:
            return decode_changes(answer)
        except ValueError as broken:
            raise CredentialsUnavailable(f"the control plane's answer cannot be read: {broken}") from broken

    async def _ask(self, method: Any, request: bytes) -> bytes:
        try:
            answer: bytes = await method(request, timeout=_LONGEST)
        except grpc.aio.AioRpcError as failed:
            said = f"{failed.code().name}: {failed.details()}"
            if failed.code() in _AWAY:
                raise CredentialsOutOfReach(f"the control plane is not reached ({said})") from None
            raise CredentialsUnavailable(f"the control plane gives no keys ({said})") from None
        return answer
