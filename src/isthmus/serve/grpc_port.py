"""The control plane's gRPC port: mutual TLS for nodes and proxies, and enrolment on a Unix socket of this user."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from isthmus.ads.server import KEEPALIVE_OPTIONS
from isthmus.api.listening import patiently
from isthmus.identity.server import ControlPlaneTls, server_credentials
from isthmus.model.world import Address
from isthmus.proxy.place import Folders

LEAST_OWN_TTL = timedelta(minutes=10)
"""The control plane's own certificate: shorter ones are for testing the proxies' rotation."""
_HANDSHAKE_MILLISECONDS = 10_000
"""gRPC waits two minutes for a handshake."""
_SIZES = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", 64 << 20))


async def serve_grpc(
    handlers: Iterable[grpc.GenericRpcHandler],
    tls: ControlPlaneTls,
    at: Address,
    folders: Folders,
    enrolment: Path,
    listen: Address | None = None,
) -> Any:
    """A started server; whoever calls stops it. ``enrolment``: the socket that takes callers without a certificate.

    ``listen``: for other machines.
    """
    handshakes = ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS)
    server = grpc.aio.server(options=[*KEEPALIVE_OPTIONS, ("grpc.so_reuseport", 0), handshakes, *_SIZES])
    server.add_generic_rpc_handlers(tuple(handlers))
    await patiently(str(at), lambda: server.add_secure_port(str(at), server_credentials(tls)))
    if listen is not None:
        await patiently(str(listen), lambda: server.add_secure_port(str(listen), server_credentials(tls)))
    folders.ads_socket.unlink(missing_ok=True)
    server.add_secure_port(f"unix:{folders.ads_socket}", server_credentials(tls))
    enrolment.unlink(missing_ok=True)  # noqa: ASYNC240 (a socket of the runtime folder, before anything is served)
    server.add_insecure_port(f"unix:{enrolment}")
    await server.start()
    folders.ads_socket.chmod(0o600)
    return server
