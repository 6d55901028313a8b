"""The bounds of a TLS port, before anybody is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from isthmus.api.accepting import Bounds
from isthmus.api.bundle_endpoint import build_bundle_endpoint, run_bundle_endpoint, server_context, show
from isthmus.api.listening import tcp_socket
from tests.real.pki import Authority

IDLE = 2000
ROOT = Authority("root")


@asynccontextmanager
async def serving(bounds: Bounds) -> AsyncIterator[int]:
    """Its port."""
    context, leaf = server_context(), ROOT.issue("localhost")
    show(context, leaf.chain, leaf.key)
    listening = tcp_socket("127.0.0.1", 0)
    running = asyncio.create_task(
        run_bundle_endpoint(build_bundle_endpoint(lambda: "{}"), listening, context, bounds=bounds)
    )
    try:
        yield listening.getsockname()[1]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def ask(port: int) -> int:
    trust = ssl.create_default_context(cadata=ROOT.pem.decode())
    async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=20) as client:
        return (await client.get(f"https://localhost:{port}/")).status_code


async def connected(port: int) -> socket.socket:
    while True:
        idle = socket.socket()
        idle.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(idle, ("127.0.0.1", port))
        except ConnectionRefusedError:
            idle.close()
            await asyncio.sleep(0.02)
        else:
            return idle


async def closed(idle: socket.socket) -> None:
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.get_running_loop().sock_recv(idle, 1) == b""


async def test_two_thousand_that_say_nothing_keep_nobody_out() -> None:
    bounds = Bounds(most=200, most_of_one=100, handshake=timedelta(minutes=5))
    async with serving(bounds) as port:
        idle: list[socket.socket] = []
        try:
            for at in range(IDLE):
                idle.append(await connected(port))
                if at % 500 == 499:
                    assert await ask(port) == 200, f"beside {at + 1}"
            await closed(idle[0])
            assert len(os.listdir("/proc/self/fd")) < IDLE + 200, "the server keeps a hundred of its ends"
        finally:
            for one in idle:
                one.close()


async def test_a_handshake_has_its_time() -> None:
    async with serving(Bounds(handshake=timedelta(seconds=1))) as port:
        idle = await connected(port)
        try:
            await closed(idle)
        finally:
            idle.close()
        assert await ask(port) == 200


async def test_who_is_served_is_not_dropped_for_another() -> None:
    trust = ssl.create_default_context(cadata=ROOT.pem.decode())
    async with serving(Bounds(most=1)) as port:
        idle = await connected(port)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
        await closed(idle)
        idle.close()
        with pytest.raises((OSError, httpx.TransportError)):
            await ask(port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
