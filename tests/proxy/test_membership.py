"""Joining, where what answers is not what it should be. That it works is shown by tests/real/test_hosts.py."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from isthmus.errors import NotEnrolled, Refused, Unreachable
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.ticket import Ticket
from isthmus.model.world import Address
from isthmus.proxy.membership import left, member
from isthmus.state import StateDir
from tests.real.pki import Authority

PLANE = SpiffeId.parse("spiffe://cluster.local/ns/istio-system/sa/isthmus")
STRANGER = Authority("stranger")
TOKEN = "secret-of-the-token"


@asynccontextmanager
async def answering(folder: Path, body: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TLS server of somebody else's that answers every request with ``body``; its port, and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(STRANGER.issue("127.0.0.1").written(folder, "stranger"))
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], sent
    finally:
        server.close()


def ticket(port: int) -> str:
    return Ticket("edge-1", PLANE, ("ab" * 32,), port, TOKEN).encode()


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (STRANGER.pem, NotEnrolled, "another root certificate"),
        (b"x" * (2 << 20), Unreachable, "cannot be read"),
        ("ä".encode(), Unreachable, "cannot be read"),
    ],
)
async def test_the_token_is_for_nobody_else(tmp_path: Path, body: bytes, error: type[Exception], said: str) -> None:
    state = StateDir.at(tmp_path / "state")
    async with answering(tmp_path, body) as (port, sent):
        with pytest.raises(error, match=said) as raised:
            await member(state, Address("127.0.0.1", 1), ticket(port))
    assert TOKEN not in str(raised.value)
    assert [request.split(b" ")[:2] for request in sent] == [[b"GET", b"/v1/roots"]]
    assert left(state) is None


async def test_without_a_token_who_never_joined_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has not joined yet"):
        await member(StateDir.at(tmp_path), Address("127.0.0.1", 1), None)
