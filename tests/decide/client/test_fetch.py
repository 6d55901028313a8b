from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from isthmus.decide.client.fetch import HttpAsker
from isthmus.decide.client.introspection import Provider
from isthmus.errors import IntrospectionUnavailable
from tests.real.pki import Authority

SERVERS = Authority("servers")
ACTIVE = b'{"active": true}'


class Endpoint:
    """Answers every request on a connection with ``answer``; keeps what was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
                )
                self.asked.append(head + await reader.readexactly(length))
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def serving(answer: bytes, trust: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(answer)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, ssl=trust)
    scheme = "http" if trust is None else "https"
    endpoint.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/introspect"
    try:
        yield endpoint
    finally:
        server.close()


def provider(url: str, auth: str = "client_secret_basic", ca: str | None = None) -> Provider:
    seconds = timedelta(seconds=5)
    return Provider("https://idp", url, "shop & co", "p:w/ü", auth, (), seconds, seconds, ca)


@pytest.fixture
async def asker() -> AsyncIterator[HttpAsker]:
    made = HttpAsker()
    yield made
    await made.close()


async def test_the_secret_is_written_as_rfc_6749_has_it(asker: HttpAsker) -> None:
    async with serving(http("200 OK", ACTIVE)) as endpoint:
        assert await asker.introspect(provider(endpoint.url), "t & t") == ACTIVE
        assert await asker.introspect(provider(endpoint.url, "client_secret_post"), "token") == ACTIVE
        basic, post = endpoint.asked
        pair = base64.b64encode(b"shop+%26+co:p%3Aw%2F%C3%BC")
        assert b"Authorization: Basic " + pair in basic or b"authorization: Basic " + pair in basic
        assert basic.endswith(b"\r\n\r\ntoken=t+%26+t&token_type_hint=access_token")
        assert b"client_secret=p%3Aw%2F%C3%BC" in post
        assert b"uthorization" not in post


async def test_a_connection_serves_many_questions(asker: HttpAsker) -> None:
    async with serving(http("200 OK", ACTIVE)) as endpoint:
        for _ in range(3):
            await asker.introspect(provider(endpoint.url), "token")
        assert endpoint.connections == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("401 Unauthorized", b'{"error": "invalid_client"}'), "status 401"),
        (http("400 Bad Request", b'{"error": "invalid_request"}'), "status 400"),
        (http("400 Bad Request", b"<html>"), "status 400"),
        (http("307 Temporary Redirect", b"", "location: http://127.0.0.1:1/"), "status 307"),
        (http("200 OK", b"x" * 70_000), "more than 65536 bytes"),
        (http("200 OK", b"x", "content-encoding: gzip"), "a packed answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "."),
    ],
)
async def test_what_is_no_answer(asker: HttpAsker, answer: bytes, said: str) -> None:
    async with serving(answer) as endpoint:
        with pytest.raises(IntrospectionUnavailable, match=said):
            await asker.introspect(provider(endpoint.url), "token")


async def test_a_provider_that_does_not_look_at_such_tokens(asker: HttpAsker) -> None:
    async with serving(http("400 Bad Request", b'{"error": "unsupported_token_type"}')) as endpoint:
        assert await asker.introspect(provider(endpoint.url), "a.b.c") == b'{"active": false}'


async def test_late_or_gone(asker: HttpAsker) -> None:
    async with serving(b"") as endpoint:
        hasty = replace(provider(endpoint.url), timeout=timedelta(seconds=0.2))
        with pytest.raises(IntrospectionUnavailable, match=r"no whole answer in 0\.2 s"):
            await asker.introspect(hasty, "token")
    with pytest.raises(IntrospectionUnavailable):
        await asker.introspect(provider("http://127.0.0.1:1/"), "token")


async def test_only_the_ca_that_is_named_counts(asker: HttpAsker, tmp_path: Path) -> None:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(SERVERS.issue("127.0.0.1").written(tmp_path, "server"))
    async with serving(http("200 OK", ACTIVE), trust) as endpoint:
        assert await asker.introspect(provider(endpoint.url, ca=SERVERS.pem.decode()), "token") == ACTIVE
        for wrong in (None, Authority("others").pem.decode(), "not PEM"):
            with pytest.raises(IntrospectionUnavailable):
                await asker.introspect(provider(endpoint.url, ca=wrong), "token")


async def test_a_clock_that_is_off_is_told_of(asker: HttpAsker, caplog: pytest.LogCaptureFixture) -> None:
    for minutes, told in ((0, 0), (10, 1)):
        date = format_datetime(datetime.now(UTC) - timedelta(minutes=minutes), usegmt=True)
        async with serving(http("200 OK", ACTIVE, f"date: {date}")) as endpoint:
            for _ in range(2):
                await asker.introspect(provider(endpoint.url), "token")
        assert len(caplog.records) == told
    assert "its clock is 10 min behind ours" in caplog.text
