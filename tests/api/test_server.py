from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from isthmus.api import server
from isthmus.api.server import build_private, build_public

from .running import FakePlane, eventually, serving


@asynccontextmanager
async def asking(plane: FakePlane, *, public: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(build_public(plane) if public else build_private(plane)) as path:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://control-plane", timeout=5) as http:
            yield http


PRIVATE = ["/v1/ready", "/v1/plan", "/v1/proxies", "/v1/proxies/shop/orders/config", "/v1/diagnostics"]


async def test_the_loopback_port_tells_health_readiness_and_metrics_alone() -> None:
    async with asking(FakePlane(in_sync=False), public=True) as http:
        assert (await http.get("/healthz")).text == "ok\n"
        late = await http.get("/readyz")
        assert (late.status_code, late.text) == (503, "not in sync\n")
        for path in PRIVATE:
            assert (await http.get(path)).status_code == 404, path
        for path in ("/v1/join-tokens", "/v1/workloads"):
            assert (await http.post(path, json={})).status_code == 404, path


async def test_readiness() -> None:
    plane = FakePlane()
    async with asking(plane) as http:
        assert (await http.get("/readyz")).status_code == 200
        ready = await http.get("/v1/ready")
        assert (ready.status_code, ready.json()) == (200, {"pid": 4711})
        plane.in_sync = False
        late = await http.get("/v1/ready")
        assert (late.status_code, late.json()["not_in_sync"]) == (503, ["sidecar~shop~orders"])


async def test_a_plan_is_answered_when_it_is_another() -> None:
    plane = FakePlane()
    async with asking(plane) as http:
        assert (await http.get("/v1/plan")).json() == {"version": 1}
        waiting = asyncio.create_task(http.get("/v1/plan", params={"after": 1}))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        plane.plan.set({"version": 2})
        assert (await waiting).json() == {"version": 2}


async def test_a_plan_that_stays_is_answered_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LONG_POLL_SECONDS", 0.05)
    async with asking(FakePlane()) as http:
        answer = await http.get("/v1/plan", params={"after": 1})
        assert (answer.status_code, answer.content) == (204, b"")


async def test_a_server_that_ends_lets_go_of_who_waits() -> None:
    async with asking(FakePlane()) as http:
        waiting = asyncio.create_task(http.get("/v1/plan", params={"after": 1}))
        await asyncio.sleep(0.05)
    answer = (await asyncio.gather(waiting, return_exceptions=True))[0]
    assert isinstance(answer, httpx.TransportError) or answer.status_code == 204


async def test_what_the_plane_says_is_what_is_answered() -> None:
    plane = FakePlane()
    async with asking(plane) as http:
        assert (await http.post("/v1/join-tokens", json={"node": "local"})).json() == {"token": "token of local"}
        assert (await http.get("/v1/proxies")).json() == [{"id": "sidecar~shop~orders"}]
        assert (await http.get("/v1/diagnostics")).json() == [{"code": "IST0101"}]


async def test_a_proxy_may_be_named_with_its_namespace() -> None:
    plane = FakePlane()
    async with asking(plane) as http:
        assert (await http.get("/v1/proxies/shop/orders/config")).json() == {"proxy": "sidecar~shop~orders"}
        nobody = await http.get("/v1/proxies/sidecar~shop~nobody/config")
        assert (nobody.status_code, nobody.json()) == (404, {"error": "no such proxy"})
        assert plane.asked == ["shop/orders", "sidecar~shop~nobody"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/plan?after=soon", b""),
        ("POST", "/v1/join-tokens", b"{"),
        ("PUT", "/v1/programs", b'{"listening": "sidecar~shop~orders"}'),
        ("POST", "/v1/join-tokens", b"[]"),
        ("POST", "/v1/join-tokens", b"{}"),
        ("POST", "/v1/join-tokens", b'{"node": "a/b"}'),
        ("POST", "/v1/workloads", b'{"namespace": "shop"}'),
        ("POST", "/v1/workloads", b'{"namespace": "shop", "service_account": "x", "labels": 5}'),
    ],
)
async def test_what_is_no_request_of_ours_is_the_callers_fault(method: str, path: str, body: bytes) -> None:
    plane = FakePlane()
    async with asking(plane) as http:
        answer = await http.request(method, path, content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]
        assert plane.guests == []


BODY = {"namespace": "shop", "service_account": "visitor", "labels": {"app": "web"}}


async def test_a_workload_lives_as_long_as_its_request() -> None:
    plane = FakePlane()
    async with asking(plane) as http, http.stream("POST", "/v1/workloads", json=BODY) as response:
        lines = response.aiter_lines()
        assert "run-1" in await anext(lines)
        assert plane.guests == [("shop", "run-1")]
        assert plane.asked == [("shop", "visitor", {"app": "web"}, "Host")]
        await anext(lines)
        await response.aclose()
        await eventually(lambda: plane.guests == [])


async def test_a_workload_that_is_given_up_before_it_is_ready_is_removed_too() -> None:
    plane = FakePlane(held=asyncio.Event())
    async with asking(plane) as http:
        asked = asyncio.create_task(http.post("/v1/workloads", json=BODY))
        await eventually(lambda: plane.guests == [("shop", "run-1")])
        asked.cancel()
        await eventually(lambda: plane.guests == [])


async def test_a_workload_is_removed_when_the_server_ends() -> None:
    plane = FakePlane(held=asyncio.Event())
    async with asking(plane) as http:
        asked = asyncio.create_task(http.post("/v1/workloads", json=BODY))
        await eventually(lambda: plane.guests == [("shop", "run-1")])
    await asyncio.gather(asked, return_exceptions=True)
    await eventually(lambda: plane.guests == [])


async def test_a_workload_that_is_there_can_be_held_again() -> None:
    plane = FakePlane()
    async with asking(plane) as http:
        async with http.stream("POST", "/v1/workloads", json={**BODY, "name": "run-1"}) as response:
            assert "run-1" in await anext(response.aiter_lines())
            assert (plane.guests, plane.asked) == ([("shop", "run-1")], [])
        answer = await http.post("/v1/workloads", json={**BODY, "name": "run-2"})
        assert (answer.status_code, answer.json()) == (409, {"error": 'there is no "run-2"'})


async def test_a_workload_may_be_refused() -> None:
    async with asking(FakePlane()) as http:
        answer = await http.post("/v1/workloads", json={**BODY, "namespace": "Shop"})
        assert (answer.status_code, answer.json()) == (409, {"error": '"Shop" is not a namespace'})


@pytest.mark.parametrize("public", [True, False])
async def test_metrics_are_told_on_both(public: bool) -> None:
    plane = FakePlane()
    async with asking(plane, public=public) as http:
        own = await http.get("/metrics")
        assert (own.status_code, own.text) == (200, "pilot_xds 1.0\n")
        assert own.headers["content-type"].startswith("text/plain; version=0.0.4")
        of_one = await http.get("/metrics/proxies/sidecar~shop~orders")
        assert of_one.text == "istio_requests_total{} 1\n"
        assert (await http.get("/metrics/proxies/sidecar~shop~nobody")).status_code == 404
        assert (await http.get("/metrics/proxies/sidecar~shop~ended")).status_code == 503
        assert (await http.get("/discovery/prometheus")).json() == plane.metric_targets()
