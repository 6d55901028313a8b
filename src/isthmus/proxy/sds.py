"""SDS on one proxy's Unix socket: a thin shell around :mod:`isthmus.proxy.sds_stream`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc

from isthmus.envoy_api.packages import discovery_v3
from isthmus.latest import Latest
from isthmus.proxy.sds_stream import DeltaStream, Refused, SdsStream, Secrets, WholeStream

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_Push = Callable[[], Awaitable[None]]
_log = logging.getLogger(__name__)


class SdsServer:
    """Serves the secrets of one proxy, and of no other, to whoever may open its socket."""

    def __init__(
        self,
        proxy_id: str,
        socket: Path,
        secrets: Latest[Secrets],
        *beside: Any,
        asked: Callable[[str], None] = lambda name: None,
    ) -> None:
        """``beside``: gRPC handlers of other services on the same socket. ``asked`` hears of names not in the plan.

        Those have a stream each, and :meth:`renew` serves them: ten thousand streams are not woken for one name.
        """
        self._asked = asked
        self._waiting: dict[str, set[_Push]] = {}
        self._proxy_id = proxy_id
        self._socket = socket
        self._secrets = secrets
        self._beside = beside
        self._server: Any = None
        self._streams: set[SdsStream] = set()
        self._pushing: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Listen; a socket that an agent left behind is replaced. Raises OSError if the folder does not allow it."""
        self._socket.unlink(missing_ok=True)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handler(), *self._beside))
        try:
            server.add_insecure_port(f"unix:{self._socket}")
        except RuntimeError as failed:
            raise OSError(f"cannot listen on {self._socket}: {failed}") from failed
        await server.start()
        self._socket.chmod(0o600)
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
        self._socket.unlink(missing_ok=True)

    def lacking(self, name: str, version: str) -> bool:
        """Whether any client that asks for the secret has not confirmed this version of it."""
        return any(stream.lacks(name, version) for stream in self._streams)

    def renew(self, names: Iterable[str]) -> None:
        """Answer those who ask for ``names``, which are not planned, anew."""
        for name in names:
            for push in self._waiting.get(name, ()):
                task = asyncio.ensure_future(push())
                self._pushing.add(task)
                task.add_done_callback(self._pushed)

    def _handler(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamSecrets": self._method(WholeStream, discovery_v3.DiscoveryRequest),
                "DeltaSecrets": self._method(DeltaStream, discovery_v3.DeltaDiscoveryRequest),
            },
        )

    def _method(self, stream: Callable[[Refused], SdsStream], request: Any) -> Any:
        async def serve(requests: AsyncIterator[Any], context: Any) -> None:
            await self._serve(stream(self._refused), requests, context)

        return grpc.stream_stream_rpc_method_handler(
            serve,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    async def _serve(self, stream: SdsStream, requests: AsyncIterator[Any], context: Any) -> None:
        # One writer at a time: the order of nonces is the order on the wire.
        writing = asyncio.Lock()

        async def push() -> None:
            async with writing:
                for response in stream.publish(self._secrets.value):
                    await context.write(response)

        async def follow() -> None:
            async for _ in self._secrets:
                await push()

        own: set[str] = set()
        following = asyncio.create_task(follow())
        self._streams.add(stream)
        try:
            async for request in requests:
                self._ask(request, push, own)
                async with writing:
                    for response in stream.receive(request, self._secrets.value):
                        await context.write(response)
        finally:
            self._streams.discard(stream)
            for name in own:
                self._leave(name, push)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _ask(self, request: Any, push: _Push, own: set[str]) -> None:
        """Hear which names that are not planned a stream asks for; ``own``: its own."""
        if not isinstance(request, discovery_v3.DeltaDiscoveryRequest):
            return
        for name in set(request.resource_names_subscribe) - self._secrets.value.planned:
            own.add(name)
            self._waiting.setdefault(name, set()).add(push)
            self._asked(name)
        for name in own.intersection(request.resource_names_unsubscribe):
            own.remove(name)
            self._leave(name, push)

    def _pushed(self, task: asyncio.Future[None]) -> None:
        """A stream that ends meanwhile is nobody's loss: who comes back asks again."""
        self._pushing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.debug("%s: a stream of secrets ended: %s", self._proxy_id, task.exception())

    def _leave(self, name: str, push: _Push) -> None:
        waiting = self._waiting.get(name, set())
        waiting.discard(push)
        if not waiting:
            self._waiting.pop(name, None)

    def _refused(self, names: str, why: str) -> None:
        _log.error("%s: Envoy refused the secret %s: %s", self._proxy_id, names, why)
