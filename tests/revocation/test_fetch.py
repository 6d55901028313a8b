from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from isthmus.errors import RevocationUnavailable
from isthmus.revocation.fetch import HttpFetcher, Limits

Handle = Callable[[bytes, bytes], Awaitable[bytes]]
"""Head and body of a request to the bytes of the answer."""
LIMITS = Limits(total=timedelta(seconds=5), max_body_bytes=1000, max_answer_bytes=100)


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        writer.write(await handle(head, await reader.readexactly(length)))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1")
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def response(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers))
    return f"{head}\r\n\r\n".encode() + body


def always(answer: bytes) -> Handle:
    async def handle(head: bytes, body: bytes) -> bytes:
        return answer

    return handle


async def test_get_and_post() -> None:
    async def handle(head: bytes, body: bytes) -> bytes:
        return response(head.split(b" ")[0] + b" " + body)

    async with serving(handle) as url:
        fetcher = HttpFetcher(LIMITS)
        assert await fetcher.fetch(url, None) == b"GET "
        assert await fetcher.fetch(url, b"question") == b"POST question"


async def test_a_question_says_what_it_is() -> None:
    async def handle(head: bytes, body: bytes) -> bytes:
        return response(str(b"content-type: application/ocsp-request" in head.lower()).encode())

    async with serving(handle) as url:
        assert await HttpFetcher(LIMITS).fetch(url, b"q") == b"True"


@pytest.mark.parametrize(
    ("answer", "body", "reason"),
    [
        (response(status="404 Not Found"), None, "status 404"),
        (response(b"x" * 1001), None, "more than 1000 bytes"),
        (response(b"x" * 101), b"question", "more than 100 bytes"),
        (response(b"x", "200 OK", "content-encoding: gzip"), None, "packed"),
        (response(b"", "302 Found", "location: file:///etc/passwd"), None, "not an http"),
        (response(b"", "302 Found", "location: /again"), None, "redirects"),
        (response(b"", "302 Found", "location: http://xn--a/"), None, "not allowed"),
        (b"nonsense\r\n\r\n", None, "illegal"),
    ],
)
async def test_what_is_not_taken(answer: bytes, body: bytes | None, reason: str) -> None:
    async with serving(always(answer)) as url:
        with pytest.raises(RevocationUnavailable, match=reason):
            await HttpFetcher(LIMITS).fetch(url, body)


@pytest.mark.parametrize("url", ["ftp://ca.example/crl", "http:///crl", "crl"])
async def test_what_is_not_asked(url: str) -> None:
    with pytest.raises(RevocationUnavailable, match="not a"):
        await HttpFetcher(LIMITS).fetch(url, None)


async def test_who_is_slow_is_not_waited_for() -> None:
    waiting = asyncio.Event()

    async def handle(head: bytes, body: bytes) -> bytes:
        await waiting.wait()
        return response()

    async with serving(handle) as url:
        with pytest.raises(RevocationUnavailable, match=r"0\.05 s|in time"):
            await HttpFetcher(LIMITS).fetch(url, None, timedelta(seconds=0.05))
        waiting.set()
