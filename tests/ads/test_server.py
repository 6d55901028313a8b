from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from isthmus.ads.server import KEEPALIVE_OPTIONS, AdsServer, Authorize, Snapshots, steady_clock
from isthmus.ads.status import Statuses
from isthmus.envoy_api.packages import cluster_v3, discovery_v3
from isthmus.errors import NotEnrolled
from isthmus.latest import Latest
from isthmus.xds.snapshot import CLUSTER, LISTENER, Snapshot, build, snapshot

from .certificates import Pair, pair
from .playbook import cluster, listener
from .real import OneSnapshot, anybody

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
PROXY = "sidecar~shop~cart"


class Call(NamedTuple):
    """grpc.HandlerCallDetails"""

    method: str
    invocation_metadata: tuple[()]


class Client:
    """A delta ADS client that does what it is told."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call = channel.stream_stream(
            METHOD,
            request_serializer=discovery_v3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DeltaDiscoveryResponse.FromString,
        )()

    async def ask(self, type_url: str, node: str = PROXY) -> None:
        await self.call.write(discovery_v3.DeltaDiscoveryRequest(type_url=type_url, node={"id": node}))

    async def hear(self) -> Any:
        async with asyncio.timeout(60):
            return await self.call.read()

    async def ack(self, response: Any, error: str = "") -> None:
        request = discovery_v3.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            request.error_detail.message = error
        await self.call.write(request)

    async def closed(self) -> grpc.StatusCode:
        async with asyncio.timeout(60):
            return await self.call.code()


class Service:
    """An ADS server on a Unix socket, and channels to it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.snapshots = OneSnapshot()
        self.statuses = Statuses()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            yield Client(channel)

    async def until(self, met: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not met():
                await self.statuses.after(self.statuses.version)

    def names(self) -> list[str]:
        return [status.proxy_id for status in self.statuses.all()]


@contextlib.asynccontextmanager
async def served(
    address: str,
    snapshots: Snapshots,
    authorize: Authorize,
    statuses: Statuses,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[None]:
    server = grpc.aio.server(options=KEEPALIVE_OPTIONS)
    server.add_generic_rpc_handlers((AdsServer(snapshots, authorize, statuses, clock).handler(),))
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    found = Service(f"unix:{tmp_path / 's'}")
    async with served(found.address, found.snapshots, anybody, found.statuses):
        yield found


async def test_a_proxy_is_told_what_is_there_and_what_changes(service: Service) -> None:
    service.snapshots.latest.set(snapshot([cluster("a")]))
    async with service.client() as client:
        await client.ask(CLUSTER)
        response = await client.hear()
        assert [resource.name for resource in response.resources] == ["a"]
        await client.ack(response)
        await client.ask(LISTENER)
        await client.ack(await client.hear())
        await service.until(lambda: (status := service.statuses.get(PROXY)) and status.in_sync)
        service.snapshots.latest.set(snapshot([cluster("a"), listener("web")]))
        response = await client.hear()
        assert [resource.name for resource in response.resources] == ["web"]
        await client.ack(response)
        await service.until(lambda: (status := service.statuses.get(PROXY)) and status.in_sync)


async def test_a_proxy_that_leaves_is_forgotten_and_its_snapshot_released(service: Service) -> None:
    async with service.client() as client:
        await client.ask(CLUSTER)
        await client.hear()
        assert service.snapshots.held == [PROXY]
        assert service.names() == [PROXY]
    await service.until(lambda: not service.names())
    async with asyncio.timeout(60):
        while service.snapshots.held:
            await asyncio.sleep(0)


async def test_a_proxy_that_ends_its_side_ends_the_stream(service: Service) -> None:
    async with service.client() as client:
        await client.ask(CLUSTER)
        await client.hear()
        await client.call.done_writing()
        assert await client.closed() is grpc.StatusCode.OK
    assert service.names() == []


async def test_a_second_stream_of_a_proxy_takes_the_place_of_the_first(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "isthmus.ads.server")
    async with service.client() as first, service.client() as second:
        await first.ask(CLUSTER)
        await first.hear()
        await second.ask(CLUSTER)
        await second.hear()
        assert await first.closed() is grpc.StatusCode.ABORTED
        assert service.names() == [PROXY]
        service.snapshots.latest.set(snapshot([cluster("a")]))
        assert [resource.name for resource in (await second.hear()).resources] == ["a"]
        assert service.snapshots.held == [PROXY]
    assert "connected again" in caplog.text


async def test_two_proxies_do_not_disturb_each_other(service: Service) -> None:
    async with service.client() as one, service.client() as two:
        await one.ask(CLUSTER, "one")
        await two.ask(CLUSTER, "two")
        await one.hear()
        await two.hear()
        assert service.names() == ["one", "two"]


async def test_a_deadline_comes_without_a_request(tmp_path: Path) -> None:
    # An hour of the clock goes by with each look at it, so that no deadline is far.
    hours = iter(range(10**6))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    service = Service(f"unix:{tmp_path / 's'}")
    service.snapshots.latest.set(snapshot([cluster("a"), listener("web")]))
    clock = lambda: start + timedelta(hours=next(hours))  # noqa: E731
    async with served(service.address, service.snapshots, anybody, service.statuses, clock), service.client() as client:
        await client.ask(CLUSTER)
        assert (await client.hear()).type_url == CLUSTER
        await client.ask(LISTENER)
        assert (await client.hear()).type_url == LISTENER


async def test_a_refusal_is_in_the_status_and_named_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with service.client() as client:
        await client.ask(CLUSTER)
        await client.ack(await client.hear())
        await client.ask(LISTENER)
        await client.ack(await client.hear())
        service.snapshots.latest.set(snapshot([listener("bad", line=7)]))
        await client.ack(await client.hear(), error="quotes: the configuration")
        await service.until(lambda: (status := service.statuses.get(PROXY)) and status.refusals)
        service.snapshots.latest.set(snapshot([listener("bad", line=8)]))
        await service.until(lambda: "shop.yaml:8" in str(service.statuses.all()[0].refusals[0]))
    assert caplog.text.count("refuses") == 1
    assert "'bad' made of VirtualService/shop/bad (shop.yaml:7:1)" in caplog.text
    assert "the configuration" not in caplog.text


async def test_a_response_beyond_four_megabytes(service: Service) -> None:
    service.snapshots.latest.set(snapshot([build("big", cluster_v3.Cluster(alt_stat_name="x" * 9_000_000))]))
    async with service.client() as client:
        await client.ask(CLUSTER)
        assert (await client.hear()).ByteSize() > 9_000_000


async def test_a_slow_proxy_gets_the_newest_not_all_of_them(service: Service) -> None:
    async with service.client() as client:
        await client.ask(CLUSTER)
        await client.ack(await client.hear())
        for number in range(200):
            message = cluster_v3.Cluster(alt_stat_name=f"{number}" + "x" * 300_000)
            service.snapshots.latest.set(snapshot([build("a", message)]))
            await asyncio.sleep(0)
        newest = service.snapshots.latest.value.of(CLUSTER)["a"].version
        heard = 0
        while (await client.hear()).resources[0].version != newest:
            heard += 1
        assert heard < 100


async def test_a_proxy_that_asks_and_does_not_read_is_not_read_on() -> None:
    class Deaf:
        """A proxy that asks without end and takes no response but the first."""

        asked = 0
        taken = 0

        async def read(self) -> Any:
            await asyncio.sleep(0)
            self.asked += 1
            return discovery_v3.DeltaDiscoveryRequest(
                type_url=CLUSTER, node={"id": PROXY}, resource_names_subscribe=["a"]
            )

        async def write(self, response: bytes) -> None:
            self.taken += 1
            if self.taken > 1:
                await asyncio.Event().wait()

        def auth_context(self) -> dict[str, list[bytes]]:
            return {}

    context = Deaf()
    handler = AdsServer(OneSnapshot(), anybody, Statuses()).handler()
    method = handler.service(Call(METHOD, ()))
    serving = asyncio.create_task(method.stream_stream(None, context))
    for _ in range(200):
        await asyncio.sleep(0)
    assert 0 < context.asked < 5
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize("how", ["after the first is gone", "in its place"])
async def test_the_next_stream_removes_what_the_last_left_in_doubt(service: Service, how: str) -> None:
    service.snapshots.latest.set(snapshot([listener("web")]))
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(service.client())
        await first.ask(CLUSTER)
        await first.ack(await first.hear())
        await first.ask(LISTENER)
        assert [resource.name for resource in (await first.hear()).resources] == ["web"]
        if how == "after the first is gone":
            first.call.cancel()
            await service.until(lambda: not service.names())
        service.snapshots.latest.set(snapshot([]))
        second = await stack.enter_async_context(service.client())
        await second.ask(CLUSTER)
        await second.ack(await second.hear())
        await second.ask(LISTENER)
        await second.ack(await second.hear())
        assert list((await second.hear()).removed_resources) == ["web"]


# Who may connect


async def test_a_peer_that_may_not_be_the_proxy_is_turned_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def nobody(peer_pem: bytes | None, node_id: str) -> None:
        raise NotEnrolled(f"{node_id} has no certificate")

    service = Service(f"unix:{tmp_path / 's'}")
    async with served(service.address, service.snapshots, nobody, service.statuses), service.client() as client:
        await client.ask(CLUSTER)
        assert await client.closed() is grpc.StatusCode.PERMISSION_DENIED
        assert "certificate" not in await client.call.details()
    assert service.snapshots.held == []
    assert service.names() == []
    assert f"{PROXY} has no certificate" in caplog.text


async def test_a_proxy_that_is_unknown_is_turned_away(tmp_path: Path) -> None:
    class NoSnapshots:
        def acquire(self, proxy_id: str) -> Latest[Snapshot]:
            raise NotEnrolled(proxy_id)

        def release(self, proxy_id: str) -> None:
            raise AssertionError("nothing was acquired")

    service = Service(f"unix:{tmp_path / 's'}")
    async with served(service.address, NoSnapshots(), anybody, service.statuses), service.client() as client:
        await client.ask(CLUSTER)
        assert await client.closed() is grpc.StatusCode.PERMISSION_DENIED


async def test_who_leaves_without_a_word_is_no_fault(service: Service) -> None:
    async with service.client() as client:
        await client.call.done_writing()
        assert await client.closed() is grpc.StatusCode.OK


async def test_without_tls_there_is_no_peer(tmp_path: Path) -> None:
    assert await seen_by_authorize(f"unix:{tmp_path / 's'}", None) == (None, PROXY)


async def test_the_peers_certificate_reaches_authorize() -> None:
    mine = pair("spiffe://cluster.local/ns/shop/sa/cart")
    seen_pem, seen_node = await seen_by_authorize("127.0.0.1:0", mine)
    assert seen_pem is not None
    assert seen_pem.replace(b"\r", b"").strip() == mine.certificate.strip()
    assert seen_node == PROXY


async def seen_by_authorize(address: str, mine: Pair | None) -> tuple[bytes | None, str]:
    seen: list[tuple[bytes | None, str]] = []

    def note(peer_pem: bytes | None, node_id: str) -> None:
        seen.append((peer_pem, node_id))

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((AdsServer(OneSnapshot(), note, Statuses()).handler(),))
    if mine is None:
        server.add_insecure_port(address)
        channel = grpc.aio.insecure_channel(address)
    else:
        own = pair("localhost")
        port = server.add_secure_port(
            address,
            grpc.ssl_server_credentials(
                [(own.key, own.certificate)], root_certificates=mine.certificate, require_client_auth=True
            ),
        )
        credentials = grpc.ssl_channel_credentials(own.certificate, mine.key, mine.certificate)
        channel = grpc.aio.secure_channel(f"localhost:{port}", credentials)
    await server.start()
    try:
        async with channel:
            client = Client(channel)
            await client.ask(CLUSTER)
            await client.hear()
    finally:
        await server.stop(0)
    assert len(seen) == 1
    return seen[0]


def test_a_steady_clock_goes_forward() -> None:
    clock = steady_clock()
    first = clock()
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=5)
    assert clock() >= first
