"""The bundle endpoint: our trust bundle over HTTPS, for whoever federates with this mesh.

Source: SPIFFE Federation, section 5. It never asks for a client's certificate; what it gives is public.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from isthmus.api.accepting import Accepting, Bounds

_LONGEST = timedelta(seconds=10)
"""That anybody has for a connection and its request: whoever says nothing must not hold a place for ever."""


def build_bundle_endpoint(document: Callable[[], str]) -> Starlette:
    """GET ``/``: the document, a SPIFFE trust bundle in JSON."""

    async def answer(_: Request) -> Response:
        return Response(document(), media_type="application/json", headers={"cache-control": "no-cache"})

    return Starlette(routes=[Route("/", answer, methods=["GET"])])


def server_context() -> ssl.SSLContext:
    """TLS 1.2 or newer, without clients' certificates; :func:`show` says what it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_NONE
    return context


def show(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """From the next connection on, show this certificate (PEM, leaf first; the key unencrypted).

    OpenSSL reads files alone: these are of memory, gone when this returns. Raises ssl.SSLError: they do not fit.
    """
    descriptor = os.memfd_create("isthmus-bundle-endpoint", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(chain + b"\n" + key)
        file.flush()
        # Without a password OpenSSL would ask the terminal for one, and the control plane would wait.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")


class _Ending(H11Protocol):
    """Of one connection: it has ``longest``, and tells ``lost`` of its end."""

    def __init__(self, server: uvicorn.Server, longest: timedelta, lost: Callable[[], None]) -> None:
        super().__init__(server.config, server.server_state, {})
        self._longest = longest
        self._lost = lost

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._ended = asyncio.get_running_loop().call_later(self._longest.total_seconds(), transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.cancel()
        self._lost()
        super().connection_lost(exc)


async def run_bundle_endpoint(
    app: Starlette,
    listening: socket.socket,
    context: ssl.SSLContext,
    longest: timedelta = _LONGEST,
    bounds: Bounds | None = None,
) -> None:
    """Serve until cancelled; no connection for more than ``longest``, no more than ``bounds`` at once."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=5,
        server_header=False,
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.exc_info is None)
    server = uvicorn.Server(config)
    # Signals are the process's business, not this server's.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    config.load()
    accepting = Accepting(context, lambda lost: _Ending(server, longest, lost), bounds)
    serving = asyncio.create_task(server.serve(sockets=[]))
    try:
        # Not its own way to take connections in, which takes whatever comes.
        await accepting.run(listening)
    finally:
        listening.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
