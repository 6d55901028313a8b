from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import pytest

from isthmus.model.probe import Exec, HttpGet, Probe, TcpSocket
from isthmus.proxy.probing import Verdict, attempt, watch
from tests.real.backend import Backend, Reply
from tests.real.up import free_port


def test_it_takes_so_many_in_a_row() -> None:
    verdict = Verdict(Probe(Exec(("x",)), success=2, failure=3))
    assert [verdict.count(one) for one in (True, False, True)] == [False, False, False]
    assert (verdict.count(True), verdict.well) == (True, True)
    assert [verdict.count(one) for one in (False, False, True, False, False)] == [False] * 5
    assert (verdict.count(False), verdict.well) == (True, False)


async def test_gets() -> None:
    statuses = {"/fine": 204, "/moved": 302, "/wrong": 404, "/broken": 500}
    with Backend("b", lambda saw: Reply(statuses[saw["path"]])) as backend:
        for path, fine in (("/fine", True), ("/moved", True), ("/wrong", False), ("/broken", False)):
            said = await attempt(Probe(HttpGet(backend.port, path)))
            assert (said is None) is fine, path
        assert await attempt(Probe(HttpGet(backend.port, "/fine", scheme="https"))) is not None
        named = HttpGet(backend.port, "/fine", headers=(("Host", "shop.example.com"),))
        assert await attempt(Probe(named)) is None
        assert ["host", "shop.example.com"] in backend.seen[-1]["headers"]


async def test_connections_and_commands() -> None:
    with Backend("b") as backend:
        assert await attempt(Probe(TcpSocket(backend.port))) is None
    assert "Connect" in str(await attempt(Probe(TcpSocket(free_port()))))
    assert await attempt(Probe(Exec((sys.executable, "-c", "")))) is None
    assert await attempt(Probe(Exec((sys.executable, "-c", "raise SystemExit(3)")))) == "exit code 3"
    assert "FileNotFoundError" in str(await attempt(Probe(Exec(("/nowhere/x",)))))


@pytest.mark.parametrize("slow", ["get", "exec"])
async def test_what_takes_too_long_has_failed(slow: str) -> None:
    with Backend("b", lambda _: Reply(delay_seconds=5)) as backend:
        action = HttpGet(backend.port) if slow == "get" else Exec(("sleep", "30"))
        assert await attempt(Probe(action, timeout=timedelta(seconds=0.2))) == "no answer in 0.2 s"


async def test_changes_are_told_and_nothing_else() -> None:
    heard: list[bool] = []
    fine = True
    with Backend("b", lambda _: Reply(200 if fine else 503)) as backend:
        probe = Probe(HttpGet(backend.port), period=timedelta(milliseconds=10), failure=1)
        watching = asyncio.create_task(watch(probe, lambda well, _: heard.append(well)))
        async with asyncio.timeout(60):
            while len(backend.seen) < 5:
                await asyncio.sleep(0.01)
            fine = False
            while heard[-1]:
                await asyncio.sleep(0.01)
        watching.cancel()
    assert heard == [False, True, False]
