"""The control plane's HTTP: the whole API on a Unix socket of this user, what anybody may see on a port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from starlette.routing import Route

from isthmus.api.listening import patiently, run_http, tcp_socket, unix_socket
from isthmus.api.server import build_private, build_public
from isthmus.control.view import View
from isthmus.model.world import Address

_GUESTS = timedelta(seconds=10)
"""How long commands that outlived the control plane may take to come back: they ask five times a second."""


async def serve_http(view: View, socket: Path, public: Address, more: Sequence[Route] = ()) -> None:
    """Until cancelled. ``more``: what else is answered on the socket."""
    private = unix_socket(socket)

    async def serve_public() -> None:
        opened = await patiently(f"http://{public}", lambda: tcp_socket(public.host, public.port))
        await run_http(build_public(view), opened)

    async def forget_guests() -> None:
        await asyncio.sleep(_GUESTS.total_seconds())
        view.remove_unheld_workloads()

    await asyncio.gather(forget_guests(), run_http(build_private(view, more), private), serve_public())
