"""The shell of a process that answers Envoys' questions: gRPC on a Unix socket, told what to know by standard input.

Each line of standard input is a JSON object: the first has ``socket``, ``state`` (paths) and ``settings``, each later
one new ``settings``. The process ends with its standard input, so with whoever started it, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

logger = logging.getLogger(__name__)

Settings = Mapping[str, Any]
"""JSON values. They may hold secrets: never logged."""

_MODE = 0o600
_LINE_BYTES = 1 << 28
_GRACE_SECONDS = 2.0
_KEPT = frozenset({"LANG", "LC_ALL", "PATH", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ"})
"""Variables that a decision process needs; it has no others, so no policy can read what the user's shell knows."""


class Service(Protocol):
    """What answers."""

    @property
    def handlers(self) -> Sequence[grpc.GenericRpcHandler]: ...

    async def update(self, settings: Settings) -> None:
        """Take new settings; whatever is broken in them is the service's to refuse, not to raise."""

    async def close(self) -> None: ...


Start = Callable[[Settings, Path], Awaitable[Service]]
"""With the first settings, and the state directory of the machine that it runs on."""


def answer(start: Start) -> None:
    """Run until standard input ends: the whole life of the process."""
    forget_environment()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with suppress(KeyboardInterrupt):
        asyncio.run(_answer(start))


def forget_environment() -> None:
    """Drop every variable that is not needed to run."""
    for name in os.environ.keys() - _KEPT:
        del os.environ[name]


async def _answer(start: Start) -> None:
    lines = await _standard_input()
    first = await lines.readline()
    if not first:
        return
    told = json.loads(first)
    service = await start(told["settings"], Path(told["state"]))
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers(tuple(service.handlers))
    socket = Path(told["socket"])
    beside = _free(socket)
    server.add_insecure_port(f"unix:{beside}")
    await server.start()
    _show(beside, socket)
    try:
        async for line in lines:
            await service.update(json.loads(line)["settings"])
    finally:
        await server.stop(_GRACE_SECONDS)
        await service.close()
        _free(socket)


def _free(socket: Path) -> Path:
    """Where to listen first: whoever finds the socket in its place may connect, and nobody before it is ours alone."""
    beside = socket.with_suffix(".new")
    for path in (socket, beside):
        path.unlink(missing_ok=True)
    return beside


def _show(beside: Path, socket: Path) -> None:
    beside.chmod(_MODE)
    beside.replace(socket)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader
