"""Questions about API keys, from the process that checks them to the control plane, by the node's certificate.

That process knows no key of ours: it asks on a Unix socket of the runtime folder, which is this user's alone, and what
it says goes on as it is. Nothing but the two methods of ``isthmus.v1.ApiKeys`` passes here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from isthmus.errors import NotEnrolled
from isthmus.model.key_lookup import API_KEYS, CHANGES, FIND, method_path

_DEADLINE_SECONDS: Final = 1.0
_CHANNEL_SECONDS: Final = 600.0
"""The node's certificate, and what it trusts, are taken anew at least so often."""
_FAILED_SECONDS: Final = 2.0
"""And so soon where nobody was reached, or the certificate was refused."""
_LEFT_SECONDS: Final = 2.0
_RENEWED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED})

Forward = Callable[[bytes, Any], Awaitable[bytes]]


class KeyRelay:
    """``connect``: a new channel to the control plane. Raises NotEnrolled: the node's certificate has ended."""

    def __init__(self, socket: Path, connect: Callable[[], Any]) -> None:
        self._socket = socket
        self._connect = connect
        self._channel: Any = None
        self._made = 0.0
        self._failed = False
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        methods = {
            name: grpc.unary_unary_rpc_method_handler(self._forwarding(method_path(name))) for name in (FIND, CHANGES)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(API_KEYS, methods),))
        self._socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self._socket}")
        await server.start()
        self._socket.chmod(0o600)
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(None)
            self._leave()
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _forwarding(self, path: str) -> Forward:
        async def forward(request: bytes, context: Any) -> bytes:
            try:
                answer: bytes = await self._now().unary_unary(path)(request, timeout=_DEADLINE_SECONDS)
            except NotEnrolled as ended:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(ended))
            except grpc.aio.AioRpcError as failed:
                self._failed = self._failed or failed.code() in _RENEWED
                await context.abort(failed.code(), failed.details() or "")
            return answer

        return forward

    def _now(self) -> Any:
        """The channel; another one from time to time, while what the last one was asked is still answered."""
        age = time.monotonic() - self._made
        if self._channel is None or age > (_FAILED_SECONDS if self._failed else _CHANNEL_SECONDS):
            fresh = self._connect()
            self._leave()
            self._channel, self._made, self._failed = fresh, time.monotonic(), False
        return self._channel

    def _leave(self) -> None:
        if self._channel is not None:
            self._closing.add(task := asyncio.create_task(self._channel.close(_LEFT_SECONDS)))
            task.add_done_callback(self._closing.discard)
            self._channel = None
