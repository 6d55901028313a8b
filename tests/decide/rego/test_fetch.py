from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from isthmus.decide.rego.fetch import AnyBundleFetcher, Fetched, HttpDecisionPost
from isthmus.errors import RegoBundleRefused
from isthmus.model.rego_bundle import BundleSource
from tests.real.bundle_server import BundleServer

FETCHER = AnyBundleFetcher()


async def test_a_server_with_etags() -> None:
    with BundleServer() as server:
        server.bundles["/b.tar.gz"] = b"one"
        source = BundleSource(server.url("/b.tar.gz"))
        first = await FETCHER.fetch(source, None, None)
        assert (first.packed, first.tag is not None) == (b"one", True)
        same = await FETCHER.fetch(source, None, first.tag)
        assert (same.packed, same.tag) == (None, first.tag)
        server.bundles["/b.tar.gz"] = b"two"
        assert (await FETCHER.fetch(source, None, first.tag)).packed == b"two"
        assert server.answers == {("/b.tar.gz", 200): 2, ("/b.tar.gz", 304): 1}


async def test_a_server_that_holds_questions_until_there_is_something_new() -> None:
    with BundleServer() as server:
        server.bundles["/b.tar.gz"] = b"one"
        server.holds = 30.0
        source = BundleSource(server.url("/b.tar.gz"))
        first = await FETCHER.fetch(source, None, None)
        assert (first.packed, first.holds) == (b"one", True)
        waiting = asyncio.create_task(FETCHER.fetch(source, None, first.tag))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        server.bundles["/b.tar.gz"] = b"two"
        second = await waiting
        assert (second.packed, second.holds) == (b"two", True)
        server.holds = 0.01
        assert await FETCHER.fetch(source, None, second.tag) == Fetched(None, second.tag, holds=True)
        server.holds = 0.0
        assert await FETCHER.fetch(source, None, second.tag) == Fetched(None, second.tag, holds=False)
        # A question without a tag cannot be held: who says so all the same would be asked without a pause.
        server.holds, server.tagged = 30.0, False
        assert await FETCHER.fetch(source, None, None) == Fetched(b"two", None, holds=False)


async def test_a_server_with_a_token() -> None:
    with BundleServer(token="open") as server:
        server.bundles["/b.tar.gz"] = b"one"
        source = BundleSource(server.url("/b.tar.gz"))
        for wrong in (None, "other"):
            with pytest.raises(RegoBundleRefused, match="status 401"):
                await FETCHER.fetch(source, wrong, None)
        assert (await FETCHER.fetch(source, "open", None)).packed == b"one"


async def raw(answer: bytes, **options: object) -> str:
    """What is said of a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(RegoBundleRefused) as refused:
            await FETCHER.fetch(BundleSource(f"http://127.0.0.1:{port}/b"), None, None)
    return str(refused.value)


async def test_servers_that_misbehave() -> None:
    assert "status 302" in await raw(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    )
    assert "status 304" in await raw(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    packed = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx"
    assert "packed" in await raw(packed)
    assert await raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx")
    assert await raw(b"rubbish\r\n\r\n")


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(RegoBundleRefused):
            await FETCHER.fetch(BundleSource(f"http://127.0.0.1:{taken.getsockname()[1]}/b"), None, None)


async def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    source = BundleSource(str(file))
    with pytest.raises(RegoBundleRefused, match="No such file"):
        await FETCHER.fetch(source, None, None)
    file.write_bytes(b"one")
    first = await FETCHER.fetch(source, None, None)
    assert first.packed == b"one"
    assert (await FETCHER.fetch(source, None, first.tag)).packed is None
    other = tmp_path / "new"
    other.write_bytes(b"two")
    os.replace(other, file)
    assert (await FETCHER.fetch(source, None, first.tag)).packed == b"two"
    with pytest.raises(RegoBundleRefused, match="Is a directory"):
        await FETCHER.fetch(BundleSource(str(tmp_path)), None, None)


async def test_decisions_are_posted_packed() -> None:
    with BundleServer(token="open") as server:
        post = HttpDecisionPost()
        await post.post(server.url("/logs"), "open", json.dumps([{"decision_id": "1"}]).encode())
        assert server.events == [{"decision_id": "1"}]
        with pytest.raises(RegoBundleRefused, match="status 401"):
            await post.post(server.url("/logs"), None, b"[]")
        server.down = True
        with pytest.raises(RegoBundleRefused, match="status 503"):
            await post.post(server.url("/logs"), "open", b"[]")
    with pytest.raises(RegoBundleRefused):
        await post.post(server.url("/logs"), None, b"[]")
