"""A real gRPC service without generated code: bytes in, bytes out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

SERVICE = "shop.Echo"
_TRAILER = "x-echo-trailer"


def _say(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Unary. ``sleep N``: after so many seconds; ``fail``: with a status of its own."""
    context.set_trailing_metadata(((_TRAILER, "said"),))
    word, _, seconds = request.decode().partition(" ")
    if word == "sleep":
        time.sleep(float(seconds))
    if word == "fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    peer = dict(context.invocation_metadata()).get("x-forwarded-client-cert", "")
    return request + b"|" + str(peer).encode()


def _count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Server streaming: ``COUNT PAUSE``, numbers with a pause between them."""
    count, pause = request.decode().split()
    for number in range(int(count)):
        if number:
            time.sleep(float(pause))
        yield str(number).encode()
    context.set_trailing_metadata(((_TRAILER, "counted"),))


def _chat(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Both ways: each message comes back."""
    for request in requests:
        yield b"echo " + request


class GrpcEcho:
    """Listens in plaintext at 127.0.0.1."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(_say),
            "Count": grpc.unary_stream_rpc_method_handler(_count),
            "Chat": grpc.stream_stream_rpc_method_handler(_chat),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> GrpcEcho:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


class Stub:
    """A client on ``channel``."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.say: Any = channel.unary_unary(f"/{SERVICE}/Say")
        self.count: Any = channel.unary_stream(f"/{SERVICE}/Count")
        self.chat: Any = channel.stream_stream(f"/{SERVICE}/Chat")


def trailer(call: Any) -> str | None:
    """The trailer that the service set."""
    return dict(call.trailing_metadata() or ()).get(_TRAILER)
