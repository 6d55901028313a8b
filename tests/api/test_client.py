from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from isthmus.api import server
from isthmus.api.client import ApiClient
from isthmus.api.server import build_private
from isthmus.errors import Unreachable

from .running import FakePlane, eventually, serving


@asynccontextmanager
async def client_of(plane: FakePlane) -> AsyncIterator[ApiClient]:
    async with serving(build_private(plane)) as path:
        yield ApiClient(path)


async def test_every_question() -> None:
    plane = FakePlane()
    async with client_of(plane) as client:
        assert await client.ready() == (True, {"pid": 4711})
        assert await client.plan() == {"version": 1}
        assert await client.join_token("local") == "token of local"
        await client.tell_listening(frozenset({"sidecar~shop~web", "sidecar~shop~orders"}))
        assert plane.asked == [["sidecar~shop~orders", "sidecar~shop~web"]]
        assert await client.proxies() == [{"id": "sidecar~shop~orders"}]
        assert await client.config("shop/orders") == {"proxy": "sidecar~shop~orders"}
        assert await client.config("nobody") is None
        assert await client.diagnostics() == [{"code": "IST0101"}]


async def test_not_ready_is_an_answer() -> None:
    async with client_of(FakePlane(in_sync=False)) as client:
        ready, document = await client.ready()
        assert not ready
        assert document["not_in_sync"] == ["sidecar~shop~orders"]


async def test_an_answer_that_is_broken_off() -> None:
    """As that of a long question is when the control plane stops."""

    async def broken(_: Request) -> Response:
        return PlainTextResponse("Internal Server Error", 500)

    async with serving(Starlette(routes=[Route("/v1/drift", broken)])) as path:
        with pytest.raises(Unreachable, match="did not answer: it stops"):
            await ApiClient(path).drift()


async def test_a_plan_that_stays_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LONG_POLL_SECONDS", 0.05)
    async with client_of(FakePlane()) as client:
        assert await client.plan(after=1) is None


async def test_the_socket_may_be_a_link(tmp_path: Path) -> None:
    """As in the state directory, whose own path may be too long for a socket."""
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    async with serving(build_private(FakePlane())) as path:
        (deep / "api.sock").symlink_to(path)
        assert await ApiClient(deep / "api.sock").plan() == {"version": 1}


async def test_a_workload_is_there_while_the_context_is_open() -> None:
    plane = FakePlane()
    async with client_of(plane) as client:
        async with client.workload("shop", "visitor", {"app": "web"}) as given:
            assert given == {"name": "run-1", "env": {"http_proxy": "http://w:x@127.0.0.1:1"}}
            assert plane.guests == [("shop", "run-1")]
        await eventually(lambda: plane.guests == [])


async def test_a_control_plane_that_is_started_anew_gives_the_same_workload_back(tmp_path: Path) -> None:
    before, after = FakePlane(), FakePlane()
    client, lost = ApiClient(tmp_path / "api.sock", again_seconds=0.01), list[str]()
    async with AsyncExitStack() as held:
        async with serving(build_private(before)) as path:
            (tmp_path / "api.sock").symlink_to(path)
            await held.enter_async_context(client.workload("shop", "visitor", {}, lost=lost.append))
        await eventually(lambda: len(lost) == 1)
        assert "no control plane answers at" in lost[0]
        (tmp_path / "api.sock").unlink()
        async with serving(build_private(after)) as path:
            (tmp_path / "api.sock").symlink_to(path)
            await eventually(lambda: after.guests == [("shop", "run-1")])
            assert after.asked == []
            await held.aclose()
            await eventually(lambda: after.guests == [])


async def test_a_refused_workload_says_why() -> None:
    async with client_of(FakePlane()) as client:
        with pytest.raises(Unreachable, match='"Shop" is not a namespace'):
            async with client.workload("Shop", "visitor", {}):
                pass


async def test_a_control_plane_that_breaks_off_is_unreachable() -> None:
    plane = FakePlane(broken=True)
    async with client_of(plane) as client:
        with pytest.raises(Unreachable, match="isthmus up"):
            async with client.workload("shop", "visitor", {}):
                pass
        assert plane.guests == []


async def test_nobody_there(tmp_path: Path) -> None:
    client = ApiClient(tmp_path / "api.sock")
    for question in (client.ready, client.plan, client.proxies, client.diagnostics):
        with pytest.raises(
            Unreachable, match=r"no control plane answers at .*api\.sock \(is `isthmus up` or `serve` running"
        ):
            await question()
    with pytest.raises(Unreachable):
        await client.config("orders")
    with pytest.raises(Unreachable):
        await client.join_token("local")
    with pytest.raises(Unreachable):
        await client.tell_listening(frozenset())
    with pytest.raises(Unreachable):
        async with client.workload("shop", "visitor", {}):
            pass


async def test_what_the_caller_raises_inside_is_the_callers_own() -> None:
    plane = FakePlane()
    async with client_of(plane) as client:
        with pytest.raises(asyncio.CancelledError):
            async with client.workload("shop", "visitor", {}):
                raise asyncio.CancelledError
        await eventually(lambda: plane.guests == [])
