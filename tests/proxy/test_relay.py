from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from isthmus.errors import EnvoyFailed
from isthmus.model.world import Address
from isthmus.proxy.place import Folders
from isthmus.proxy.relay import RelayProgram
from isthmus.xds.relay import relay_socket

pytestmark = pytest.mark.real


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    with TemporaryDirectory(prefix="isthmus-", dir="/tmp") as runtime:
        yield Folders(tmp_path, Path(runtime))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says back what came, once there is no more."""
    writer.write(await reader.read())
    with suppress(ConnectionError):
        await writer.drain()
    writer.close()


async def said(path: str) -> bytes | None:
    """What is at the other end of a socket, if it is there."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return None
    writer.write(b"hello")
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except (ConnectionError, TimeoutError):
        return None
    finally:
        writer.close()


async def until_said(path: str, expected: bytes | None) -> None:
    async with asyncio.timeout(60):
        while await said(path) != expected:
            await asyncio.sleep(0.05)


async def test_it_leads_where_it_is_aimed_and_is_aimed_anew_while_it_runs(folders: Folders) -> None:
    servers = [await asyncio.start_server(echo, "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    one, other = Address("127.0.0.1", ports[0]), Address("localhost", ports[1])
    sockets = [relay_socket(str(folders.runtime), to) for to in (one, other)]
    relay = RelayProgram(folders)
    relay.aim((one,))
    child = await relay.start()
    try:
        await until_said(sockets[0], b"hello")
        assert sockets[1] not in map(str, folders.relay_sockets())
        relay.aim((one, other))
        await until_said(sockets[1], b"hello")
        relay.aim((other,))
        await until_said(sockets[0], None)
        assert sockets[0] not in map(str, folders.relay_sockets())
        assert await said(sockets[1]) == b"hello"
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folders.relay_sockets())
    finally:
        assert await relay.stop(child) == 0
        for server in servers:
            server.close()
    assert [path.name for path in folders.runtime.iterdir() if path.suffix != ".yaml"] == []
    with pytest.raises(EnvoyFailed):
        await relay.admin.ready()
