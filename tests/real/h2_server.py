"""HTTP/2 by hand, as little as a test needs: every stream is answered with 200 and no body, at once or when told.

Frames are those of RFC 9113; the only header sent, ``:status: 200``, is one byte of HPACK's static table (RFC 7541).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _SETTINGS, _PING = 1, 4, 6
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_STATUS_200 = b"\x88"
_MAX_CONCURRENT_STREAMS = 3


@dataclass(slots=True)
class Held:
    """Streams that wait for their answer, by connection."""

    wanted: int
    connections: dict[int, set[int]] = field(default_factory=dict)
    writers: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    released: bool = False
    """Whether as many came as were waited for: those, and all later ones, are answered."""

    @property
    def count(self) -> int:
        return sum(map(len, self.connections.values()))


class H2Server:
    """Runs in a thread of its own. ``streams``: how many it offers on one connection."""

    def __init__(self, streams: int = 2**31 - 1) -> None:
        self._streams = streams
        self._held: Held | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._connections = 0
        self.port = 0

    def __enter__(self) -> H2Server:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @contextlib.contextmanager
    def holding(self, count: int) -> Iterator[Held]:
        """No stream is answered before ``count`` of them are open, or :meth:`release` is called."""
        self._held = Held(count)
        yield self._held
        self.release()
        self._held = None

    def release(self) -> None:
        if self._held is not None:
            asyncio.run_coroutine_threadsafe(self._release(self._held), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            if await reader.readexactly(len(_PREFACE)) != _PREFACE:
                return
            writer.write(_frame(_SETTINGS, 0, 0, struct.pack("!HI", _MAX_CONCURRENT_STREAMS, self._streams)))
            while True:
                head = await reader.readexactly(9)
                size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
                payload = await reader.readexactly(size)
                if kind == _SETTINGS and not flags & _ACK:
                    writer.write(_frame(_SETTINGS, _ACK, 0))
                elif kind == _PING and not flags & _ACK:
                    writer.write(_frame(_PING, _ACK, 0, payload))
                elif kind == _HEADERS:
                    await self._opened(number, stream, writer)

    async def _opened(self, number: int, stream: int, writer: asyncio.StreamWriter) -> None:
        held = self._held
        if held is None or held.released:
            writer.write(_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, _STATUS_200))
            return
        held.connections.setdefault(number, set()).add(stream)
        held.writers[number] = writer
        if held.count >= held.wanted:
            await self._release(held)

    async def _release(self, held: Held) -> None:
        if held.released:
            return
        held.released = True
        for number, streams in held.connections.items():
            for stream in streams:
                held.writers[number].write(_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, _STATUS_200))


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
