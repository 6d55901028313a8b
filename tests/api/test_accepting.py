"""The bounds of a TLS port, before anybody is known."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx

from isthmus.api.accepting import Accepting, Bounds
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


async def test_who_finished_the_handshake_and_says_nothing_keeps_nobody_out() -> None:
    """Not from one address, which has more than its share, nor from several that fill all there is."""
    trust = ssl.create_default_context(cadata=ROOT.pem.decode())
    loose = ssl.create_default_context(cadata=ROOT.pem.decode())
    loose.check_hostname = False
    async with serving(Bounds(most=150, most_of_one=110)) as port:
        first = await asyncio.open_connection("localhost", port, ssl=trust)
        idle = []
        try:
            for address in ("127.0.0.2", "127.0.0.3"):
                for _ in range(120):
                    held = await asyncio.open_connection("127.0.0.1", port, ssl=loose, local_addr=(address, 0))
                    idle.append(held)
                assert await ask(port) == 200, address
            reader, writer = first
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "it is dropped for another's"
            for oldest, _ in (idle[0], idle[120]):
                with contextlib.suppress(ConnectionError):
                    async with asyncio.timeout(30):
                        assert await oldest.read(1) == b""
        finally:
            for _, writer in (first, *idle):
                writer.close()


class Counting(socket.socket):
    taken = 0

    def accept(self) -> tuple[socket.socket, Any]:
        found = super().accept()
        self.taken += 1
        return found


async def test_everybody_else_has_a_turn_in_a_flood() -> None:
    with Counting() as listening, contextlib.ExitStack() as flood:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        for _ in range(50):
            flood.enter_context(socket.create_connection(listening.getsockname()))
        accepting = Accepting(server_context(), lambda lost: asyncio.Protocol(), Bounds(most=10))
        running = asyncio.create_task(accepting.run(listening))
        seen = [0]
        async with asyncio.timeout(60):
            while seen[-1] < 50:
                await asyncio.sleep(0)
                seen.append(listening.taken)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 2
