from __future__ import annotations

import asyncio
import stat
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    fault_common_v3,
    fault_v3,
    http_connection_manager_v3,
    listener_v3,
    route_v3,
    router_v3,
    type_v3,
)
from isthmus.errors import EnvoyFailed
from isthmus.model.world import Address
from isthmus.proxy.child import Child
from isthmus.proxy.envoy import AdminClient, EnvoyProgram, find_envoy, socket_there
from isthmus.proxy.place import Folders
from isthmus.xds.address import socket_address
from isthmus.xds.bootstrap import BootstrapSettings, build_bootstrap
from tests.real.up import free_port

from .making import CONTROL_PLANE, folders, until


def program(places: Folders, proxy_id: str = "sidecar~shop~orders") -> EnvoyProgram:
    """An Envoy whose agent and control plane are both away."""
    settings = BootstrapSettings(
        proxy_id=proxy_id,
        name="orders",
        namespace="shop",
        admin_socket=str(places.admin_socket(proxy_id)),
        sds_socket=str(places.sds_socket(proxy_id)),
        ads=Address("127.0.0.1", free_port()),
        control_plane_id=CONTROL_PLANE,
    )
    return EnvoyProgram(settings, places, concurrency=1, drain=timedelta(seconds=3))


@asynccontextmanager
async def running(one: EnvoyProgram) -> AsyncIterator[Child]:
    child = await one.start()
    try:
        await until(lambda: one.admin.stats("server.live"))
        yield child
    finally:
        child.kill()
        await child.wait()


def test_the_pinned_envoy_is_there() -> None:
    assert find_envoy().is_file()


@pytest.mark.real
async def test_started_looked_into_and_stopped_without_a_trace(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        one = program(places)
        async with running(one) as child:
            assert (await one.admin.stats(r"^server\.concurrency$")) == {"server.concurrency": 1}
            assert (await one.admin.config_dump()).configs
            assert list((await one.admin.certificates()).certificates) == []
            socket = places.admin_socket("sidecar~shop~orders")
            assert stat.S_IMODE(socket.stat().st_mode) == 0o600
            assert stat.S_IMODE(places.bootstrap("sidecar~shop~orders").stat().st_mode) == 0o600
            assert await one.stop(child) == 0
        assert list(places.runtime.iterdir()) == []
        assert sorted(path.name for path in (places.state / "log").iterdir()) == [
            "sidecar~shop~orders.access.log",
            "sidecar~shop~orders.log",
        ]


@pytest.mark.real
async def test_one_without_its_agent_is_not_ready_and_still_ends(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        one = program(places)
        async with running(one) as child:
            assert not await one.admin.ready()
            began = asyncio.get_running_loop().time()
            assert await one.stop(child) == 0
            assert asyncio.get_running_loop().time() - began < 20


@pytest.mark.real
async def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    with folders(tmp_path) as places:
        one = program(places)
        async with running(one) as child:
            places.admin_socket("sidecar~shop~orders").unlink()
            assert await one.stop(child) in (0, -15)


async def test_nobody_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(EnvoyFailed, match="does not answer /ready"):
        await AdminClient(tmp_path / "none").ready()


async def test_socket_there(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert not await socket_there(path, timedelta(milliseconds=50))
    waiting = asyncio.create_task(socket_there(path, timedelta(seconds=5)))
    server = await asyncio.start_unix_server(lambda _reader, _writer: None, path)
    assert await waiting
    server.close()


@pytest.mark.real
async def test_a_request_under_way_may_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener of the bootstrap's own that delays each answer by 1 s: stopping waits for it."""
    port = free_port()
    with folders(tmp_path) as places:
        one = program(places)
        monkeypatch.setattr("isthmus.proxy.envoy.build_bootstrap", lambda settings: with_slow_listener(settings, port))
        async with running(one) as child:
            await until(lambda: one.admin.stats("listener.*downstream_cx_active"))
            asked = asyncio.create_task(asyncio.to_thread(answer, port))
            await until(lambda: in_flight(one))
            stopping = asyncio.create_task(one.stop(child))
            assert await asked == 200
            assert await stopping == 0


def answer(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
        status: int = response.status
        return status


async def in_flight(one: EnvoyProgram) -> bool:
    return any((await one.admin.stats(r"^http\.slow\.downstream_rq_active$")).values())


def with_slow_listener(settings: BootstrapSettings, port: int) -> object:
    """The bootstrap without a control plane, and a listener with a delay of 1 s."""
    bootstrap = build_bootstrap(settings)
    bootstrap.ClearField("dynamic_resources")
    del bootstrap.static_resources.clusters[:]
    delay = fault_v3.HTTPFault(
        delay=fault_common_v3.FaultDelay(
            fixed_delay=duration(timedelta(seconds=1)),
            percentage=type_v3.FractionalPercent(numerator=100),
        )
    )
    route = route_v3.Route(
        match=route_v3.RouteMatch(prefix="/"), direct_response=route_v3.DirectResponseAction(status=200)
    )
    http_filter = http_connection_manager_v3.HttpFilter
    manager = http_connection_manager_v3.HttpConnectionManager(
        stat_prefix="slow",
        route_config=route_v3.RouteConfiguration(
            virtual_hosts=[route_v3.VirtualHost(name="all", domains=["*"], routes=[route])]
        ),
        http_filters=[
            http_filter(name="envoy.filters.http.fault", typed_config=any_of(delay)),
            http_filter(name="envoy.filters.http.router", typed_config=any_of(router_v3.Router())),
        ],
    )
    network_filter = listener_v3.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=any_of(manager)
    )
    listener = listener_v3.Listener(
        name="slow",
        address=socket_address(Address("127.0.0.1", port)),
        filter_chains=[listener_v3.FilterChain(filters=[network_filter])],
    )
    bootstrap.static_resources.listeners.append(listener)
    return bootstrap
