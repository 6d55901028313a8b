"""SDS on one proxy's Unix socket: a thin shell around :mod:`isthmus.proxy.sds_stream`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from isthmus.envoy_api.packages import discovery_v3
from isthmus.latest import Latest
from isthmus.proxy.sds_stream import DeltaStream, Refused, SdsStream, Secrets, WholeStream

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_log = logging.getLogger(__name__)


class SdsServer:
    """Serves the secrets of one proxy, and of no other, to whoever may open its socket."""

    def __init__(self, proxy_id: str, socket: Path, secrets: Latest[Secrets]) -> None:
        self._proxy_id = proxy_id
        self._socket = socket
        self._secrets = secrets
        self._server: Any = None

    async def start(self) -> None:
        """Listen; a socket that an agent left behind is replaced. Raises OSError if the folder does not allow it."""
        self._socket.unlink(missing_ok=True)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handler(),))
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

        async def follow() -> None:
            async for secrets in self._secrets:
                async with writing:
                    for response in stream.publish(secrets):
                        await context.write(response)

        following = asyncio.create_task(follow())
        try:
            async for request in requests:
                async with writing:
                    for response in stream.receive(request, self._secrets.value):
                        await context.write(response)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _refused(self, names: str, why: str) -> None:
        _log.error("%s: Envoy refused the secret %s: %s", self._proxy_id, names, why)
