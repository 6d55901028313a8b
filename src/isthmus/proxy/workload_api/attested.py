"""A gRPC server on Unix sockets that knows, of every call, which process makes it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from grpclib.config import Configuration
from grpclib.const import Handler as Method
from grpclib.protocol import H2Protocol
from grpclib.server import Handler, Server

from isthmus.errors import NotEnrolled
from isthmus.proxy.workload_api.caller import Peer

_log = logging.getLogger(__name__)
_MOST_CONNECTIONS = 256
"""Of one user at a time: whoever opens more takes nothing from the others."""


class Service(Protocol):
    def methods(self, peer: Peer) -> Mapping[str, Method]:
        """What is answered to this caller, by path."""
        ...


class AttestedServer(Server):
    """grpclib's server, whose handlers are made for each connection: grpcio tells nothing of who is at its end."""

    def __init__(self, services: Sequence[Service]) -> None:
        super().__init__((), config=Configuration())
        self._services = services
        self._open: Counter[int] = Counter()

    def _protocol_factory(self) -> Any:
        return _Connection(self)

    def enter(self, peer: Peer) -> Handler:
        """What answers on a new connection. Raises NotEnrolled: its user has too many."""
        if self._open[peer.uid] >= _MOST_CONNECTIONS:
            raise NotEnrolled(f"uid {peer.uid} has {_MOST_CONNECTIONS} connections already")
        self._open[peer.uid] += 1
        mapping = {path: method for service in self._services for path, method in service.methods(peer).items()}
        handler = Handler(mapping, self._codec, self._status_details_codec, self.__dispatch__)
        self.__gc_step__()
        self._handlers.add(handler)
        return handler

    def leave(self, peer: Peer) -> None:
        self._open[peer.uid] -= 1
        peer.close()

    def protocol(self, handler: Handler) -> H2Protocol:
        return H2Protocol(handler, self._config, self._h2_config)


class _Connection(asyncio.Protocol):
    """One connection: attested first, then given to grpclib."""

    def __init__(self, server: AttestedServer) -> None:
        self._server = server
        self._peer: Peer | None = None
        self._inner: H2Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            peer = Peer(cast(socket.socket, transport.get_extra_info("socket")))
            handler = self._server.enter(peer)
        except (NotEnrolled, OSError) as refused:
            _log.warning("a connection to the Workload API is closed: %s", refused)
            cast(asyncio.Transport, transport).abort()
            return
        self._peer = peer
        self._inner = self._server.protocol(handler)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._inner is not None:
            cast(Any, self._inner).connection_lost(exc)
        if self._peer is not None:
            self._server.leave(self._peer)
