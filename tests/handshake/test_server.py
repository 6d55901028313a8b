from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from isthmus.envoy_api.packages import access_log_service_v3, core_v3
from isthmus.errors import NotEnrolled
from isthmus.handshake.failure import Failure
from isthmus.handshake.server import SERVICE, Authorize, HandshakeService
from tests.handshake.making import entry


def _authorize(peer_pem: bytes | None, node_id: str) -> None:
    if node_id != "gateway~shop~edge":
        raise NotEnrolled("somebody else")


async def _tell(node: str, *addresses: str, authorize: Authorize = _authorize) -> list[Failure]:
    heard: list[Failure] = []
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((HandshakeService(authorize, heard.append).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    wire = access_log_service_v3
    identifier = wire.StreamAccessLogsMessage.Identifier(node=core_v3.Node(id=node), log_name="gateway_443")
    messages = [wire.StreamAccessLogsMessage(tcp_logs={"log_entry": [entry(address)]}) for address in addresses]
    messages[0].identifier.CopyFrom(identifier)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = channel.stream_unary(
                f"/{SERVICE}/StreamAccessLogs",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=wire.StreamAccessLogsResponse.FromString,
            )
            await method(iter(messages))
    finally:
        await server.stop(None)
    return heard


def test_failures_are_heard() -> None:
    heard = asyncio.run(_tell("gateway~shop~edge", "192.0.2.1", "", "192.0.2.2"))
    assert [one.peer_address for one in heard] == ["192.0.2.1", "192.0.2.2"]
    assert {(one.proxy, one.listener) for one in heard} == {("gateway~shop~edge", "gateway_443")}


def test_who_is_put_out_meanwhile_is_heard_no_more() -> None:
    asked: list[str] = []

    def once(peer_pem: bytes | None, node_id: str) -> None:
        asked.append(node_id)
        if len(asked) > 1:
            raise NotEnrolled("evicted")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        asyncio.run(_tell("gateway~shop~edge", "192.0.2.1", "192.0.2.2", authorize=once))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert asked == ["gateway~shop~edge"] * 2


def test_nobody_speaks_for_another_proxy() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        asyncio.run(_tell("gateway~bank~edge", "192.0.2.1"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
