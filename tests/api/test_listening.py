from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from isthmus.api.listening import patiently, run_http, tcp_socket, unix_socket


async def test_a_port_that_somebody_has_is_waited_for_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    taken = tcp_socket("127.0.0.1", 0)
    port = taken.getsockname()[1]
    taken.listen()
    waiting = asyncio.create_task(patiently("the port", lambda: tcp_socket("127.0.0.1", port)))
    await asyncio.sleep(0.35)
    assert not waiting.done()
    taken.close()
    opened = await asyncio.wait_for(waiting, 60)
    assert opened.getsockname()[1] == port
    opened.close()
    assert [record.message for record in caplog.records] == [
        "the port cannot be opened yet: [Errno 98] Address already in use"
    ] or len(caplog.records) == 1


async def test_an_app_is_served_on_a_socket_of_this_user(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    socket.socket(socket.AF_UNIX).bind(str(path))
    opened = unix_socket(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def hello(_: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    serving = asyncio.create_task(run_http(Starlette(routes=[Route("/", hello)]), opened))
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path), retries=20)) as client:
        assert (await client.get("http://here/")).text == "hello"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_request_that_lasts_ends_with_the_server_without_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = asyncio.Event()

    async def lasts(_: object) -> PlainTextResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    opened = unix_socket(tmp_path / "socket")
    serving = asyncio.create_task(run_http(Starlette(routes=[Route("/", lasts)]), opened))
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(tmp_path / "socket"), retries=20)
    ) as client:
        asking = asyncio.create_task(client.get("http://here/"))
        await asyncio.wait_for(asked.wait(), 60)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        # As asyncio.run does at its end.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(asking, *left, return_exceptions=True)
    assert "Traceback" not in capsys.readouterr().err
