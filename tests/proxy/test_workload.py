from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.errors import Refused
from isthmus.model.world import Address
from isthmus.proxy.plan import PlannedWorkload
from isthmus.proxy.workload import Lines, LocalProgram

from .making import folders, until


def workload(*argv: str, cwd: Path) -> PlannedWorkload:
    return PlannedWorkload("sidecar~shop~orders", "orders", "shop", argv, {"PORT": "8080"}, str(cwd))


def test_lines_come_whole() -> None:
    lines = Lines()
    assert lines.feed(b"one\r\ntw") == ["one"]
    assert lines.feed(b"o\n\xff\nrest") == ["two", "�"]
    assert lines.end() == ["rest"]
    assert lines.end() == []


def test_a_line_without_end_does_not_fill_memory() -> None:
    assert [len(piece) for piece in Lines().feed(b"x" * 150_000)] == [65536, 65536]


async def test_output_goes_to_the_sink_with_its_name(tmp_path: Path) -> None:
    heard: list[str] = []
    with folders(tmp_path) as places:
        program = LocalProgram(
            workload("sh", "-c", "echo on $PORT; echo oh >&2; pwd", cwd=tmp_path), places, heard.append
        )
        assert await (await program.start()).wait() == 0
        await until(lambda: len(heard) == 3)
    assert sorted(heard) == sorted(["[orders] on 8080", "[orders] oh", f"[orders] {tmp_path}"])


async def test_output_goes_to_a_file_without_a_sink(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        program = LocalProgram(workload("echo", "hello", cwd=tmp_path), places, None)
        await (await program.start()).wait()
        assert (places.state / "log" / "shop~orders.out").read_text() == "hello\n"


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await LocalProgram(workload("no-such-program", cwd=tmp_path), places, None).start()
        with pytest.raises(FileNotFoundError, match="no-such-folder"):
            await LocalProgram(workload("true", cwd=tmp_path / "no-such-folder"), places, None).start()
        with pytest.raises(Refused, match="no command"):
            await LocalProgram(workload(cwd=tmp_path), places, None).start()


async def test_a_program_listens_once_somebody_takes_its_connections(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    planned = replace(workload("true", cwd=tmp_path), listens=(Address(host, port),))
    with folders(tmp_path) as places:
        program = LocalProgram(planned, places, None)
        assert await program.listens()
        server.close()
        await server.wait_closed()
        assert not await program.listens()
        assert await LocalProgram(workload("true", cwd=tmp_path), places, None).listens()
