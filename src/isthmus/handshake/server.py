"""The access log service that proxies tell of failed handshakes (Envoy's, over gRPC)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from isthmus.envoy_api.packages import access_log_service_v3
from isthmus.errors import NotEnrolled
from isthmus.handshake.failure import Failure, failure_of

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
_MOST_A_SECOND = 1000
"""Of one proxy. What comes faster waits in its Envoy, which drops what is more than its buffer holds."""
_log = logging.getLogger(__name__)


class Authorize(Protocol):
    def __call__(self, peer_pem: bytes | None, node_id: str) -> None:
        """Raise NotEnrolled unless the peer may be the proxy ``node_id``; None is a peer without a certificate."""


class HandshakeService:
    """Serves ``StreamAccessLogs``; every failure goes to ``heard``, as of the proxy that the peer has proven to be."""

    def __init__(
        self, authorize: Authorize, heard: Callable[[Failure], None], most_a_second: int = _MOST_A_SECOND
    ) -> None:
        self._authorize = authorize
        self._heard = heard
        self._most_a_second = most_a_second

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.stream_unary_rpc_method_handler(
            self._follow,
            request_deserializer=access_log_service_v3.StreamAccessLogsMessage.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})

    async def _follow(self, messages: AsyncIterator[Any], context: Any) -> Any:
        proxy = listener = ""
        async for message in messages:
            if not proxy:
                # The first message of a stream says whose it is.
                proxy, listener = message.identifier.node.id, message.identifier.log_name
            try:
                # Each time: who was put out meanwhile must not say whom another machine's gateway is to shut out.
                self._authorize(_peer_pem(context), proxy)
            except NotEnrolled as refused:
                _log.warning("failed handshakes: %s may not speak for %r: %s", context.peer(), proxy, refused)
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this peer may not be that proxy")
            entries = message.tcp_logs.log_entry
            self._tell(entries, proxy, listener)
            await asyncio.sleep(len(entries) / self._most_a_second)
        return access_log_service_v3.StreamAccessLogsResponse()

    def _tell(self, entries: Any, proxy: str, listener: str) -> None:
        for entry in entries:
            try:
                failure = failure_of(entry, proxy, listener)
            except ValueError:
                # Of a Unix socket: there is no address to tell of.
                continue
            self._heard(failure)


def _peer_pem(context: Any) -> bytes | None:
    found = context.auth_context().get("x509_pem_cert")
    return bytes(next(iter(found))) if found else None
