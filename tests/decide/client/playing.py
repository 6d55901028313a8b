"""A control plane that gives one key to whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.consumer.wire import decode_position, encode_changes, encode_record
from isthmus.model.key_lookup import API_KEYS, CHANGES, FIND

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


class PlayedKeys:
    """``fails``: what it says instead of answers."""

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self.record = KeyRecord(key.id, "shop/mobile", key.digest, NOW)
        self.at_sequence = 1
        self.fails: grpc.StatusCode | None = None
        self.answer: bytes | None = None
        self.asked: list[bytes] = []

    def revoke(self) -> None:
        self.record = replace(self.record, revoked=NOW)
        self.at_sequence += 1

    async def find(self, request: bytes, context: Any) -> bytes:
        found = self.record if request.decode() == self.key.id else None
        return await self._answer(request, encode_record(found), context)

    async def changes(self, request: bytes, context: Any) -> bytes:
        since = decode_position(request)
        here = Position("store", self.at_sequence)
        new = frozenset({self.key.id}) if since is not None and since != here else frozenset()
        return await self._answer(request, encode_changes(Changes(here, new)), context)

    async def _answer(self, request: bytes, answer: bytes, context: Any) -> bytes:
        self.asked.append(request)
        if self.fails is not None:
            await context.abort(self.fails, "as it was told")
        return self.answer if self.answer is not None else answer

    @asynccontextmanager
    async def at(self, socket: Path) -> AsyncIterator[None]:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        methods = {
            FIND: grpc.unary_unary_rpc_method_handler(self.find),
            CHANGES: grpc.unary_unary_rpc_method_handler(self.changes),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(API_KEYS, methods),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)
