"""Sockets of the control plane, and the HTTP servers on them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import uvicorn
from starlette.applications import Starlette

_EVERY_SECONDS = 0.1
_log = logging.getLogger(__name__)
T = TypeVar("T")


async def patiently(what: str, bind: Callable[[], T]) -> T:
    """What ``bind`` gives, as soon as it can: a port that was ours before may be somebody's for a moment.

    ``bind`` raises OSError or RuntimeError (gRPC's) while it cannot.
    """
    told = False
    while True:
        try:
            return bind()
        except (OSError, RuntimeError) as failed:
            if not told:
                _log.warning("%s cannot be opened yet: %s", what, failed)
            told = True
        await asyncio.sleep(_EVERY_SECONDS)


async def run_http(app: Starlette, listening: socket.socket) -> None:
    """Serve ``app`` until cancelled."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    server = uvicorn.Server(config)
    # Signals are the process's business, not this server's.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    try:
        await server.serve(sockets=[listening])
    finally:
        listening.close()


def _is_fault(record: logging.LogRecord) -> bool:
    """A request that lasts, such as a workload's, is cancelled at the end: nothing to show a trace of."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def unix_socket(path: Path) -> socket.socket:
    """For this user alone; one that a dead process left is replaced."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


def tcp_socket(host: str, port: int) -> socket.socket:
    """Raises OSError while somebody has the port."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening
