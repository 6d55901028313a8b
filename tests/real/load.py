"""Load at a fixed rate on a few connections, new ones among them, and every failure with its reason.

Nothing is tried again: a request that was sent and not answered as expected is a failure, and so is a connection that
could not be opened. An answer that says ``connection: close`` is obeyed. What HTTP lets a client try again without
harm, a request on a kept connection that closes before any byte of an answer, counts as a failure too.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

_CONNECT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """``at``: seconds since the load began. ``request``: its number on its connection, 0 for one that did not open."""

    at: float
    request: int
    reason: str


class Load:
    """Runs on a thread of its own while its context is open.

    ``rate`` (requests a second over all connections) is kept as far as answers come in time: each connection has one
    request under way at most, and what is late is sent at once, never twice. A connection is closed and opened anew
    after ``per_connection`` requests.
    """

    def __init__(
        self,
        address: tuple[str, int],
        host: str,
        *,
        rate: float = 240.0,
        connections: int = 8,
        per_connection: int = 25,
        path: str = "/",
        headers: str = "",
        trust: ssl.SSLContext | None = None,
        patience: float = 30.0,
        expected: Callable[[int], bool] = lambda status: status == 200,
    ) -> None:
        self._address = address
        self._host = host
        self._every = connections / rate
        self._workers = connections
        self._per_connection = per_connection
        self._bytes = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n".encode()
        self._trust = trust
        self._patience = patience
        self._expected = expected
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._began = 0.0
        self.failures: list[Failure] = []
        self.answers: Counter[int] = Counter()
        """By status."""
        self.sent = 0
        self.opened = 0
        """Connections."""
        self.told_to_close = 0
        """Answers with ``connection: close``."""
        self.seconds = 0.0
        self.slowest = 0.0
        """The longest time to an answer, in seconds."""

    @property
    def rate(self) -> float:
        """Answers a second, over the time so far."""
        return self.answers.total() / (self.seconds or self.now)

    @property
    def now(self) -> float:
        """Seconds since it began: what :attr:`Failure.at` is measured by."""
        return time.monotonic() - self._began

    @property
    def reasons(self) -> dict[str, int]:
        """How often each failure happened."""
        return dict(Counter(failure.reason for failure in self.failures))

    def between(self, start: float, end: float) -> list[Failure]:
        """What failed in a span of :attr:`now`."""
        return [failure for failure in self.failures if start <= failure.at <= end]

    def summary(self) -> str:
        return (
            f"{self.sent} requests ({self.rate:.0f}/s) on {self.opened} connections "
            f"in {self.seconds or self.now:.0f} s, "
            f"slowest {self.slowest * 1e3:.0f} ms, {len(self.failures)} failed {self.reasons or ''}"
        )

    async def _run(self) -> None:
        await asyncio.gather(*(self._work(number) for number in range(self._workers)))

    async def _work(self, number: int) -> None:
        due = self._began + self._every * number / self._workers
        connection: _Connection | None = None
        while not self._ending.is_set():
            late = time.monotonic() - due
            if late < 0:
                await asyncio.sleep(min(-late, 0.1))
                continue
            due = max(due + self._every, time.monotonic() - self._every)
            if connection is None:
                connection = await self._open()
            if connection is not None and not await self._ask(connection):
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    async def _open(self) -> _Connection | None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    *self._address, ssl=self._trust, server_hostname=self._host if self._trust else None
                )
        except (OSError, TimeoutError) as failed:
            self._fail(0, f"connect: {type(failed).__name__}")
            return None
        self.opened += 1
        return _Connection(reader, writer)

    async def _ask(self, connection: _Connection) -> bool:
        """One request; whether another may follow on the same connection."""
        connection.requests += 1
        self.sent += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                status, closes, body = await connection.ask(self._bytes)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as failed:
            self._fail(connection.requests, type(failed).__name__)
            return False
        self.answers[status] += 1
        self.told_to_close += closes
        self.slowest = max(self.slowest, time.monotonic() - began)
        if not self._expected(status):
            self._fail(connection.requests, f"{status} {body[:120].decode(errors='replace')}".strip())
        return not closes and connection.requests < self._per_connection

    def _fail(self, request: int, reason: str) -> None:
        self.failures.append(Failure(round(self.now, 3), request, reason))

    def __enter__(self) -> Load:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()
        self.seconds = self.now


class _Connection:
    """HTTP/1.1 as far as it is needed here: bodies by length or in chunks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.requests = 0

    async def ask(self, request: bytes) -> tuple[int, bool, bytes]:
        """Status, whether the connection ends with this answer, body."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, _, lines = head.partition("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines.split("\r\n"))
        }
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(status.split()[1]), headers.get("connection", "").lower() == "close", body

    async def _chunks(self) -> bytes:
        body = b""
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return body

    def close(self) -> None:
        self._writer.close()
