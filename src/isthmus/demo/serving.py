"""How the demo's programs serve: on the port that their sidecar was told, and gone at the first SIGTERM."""

from __future__ import annotations

import os
import sys

import uvicorn
from starlette.applications import Starlette

_GRACE_SECONDS = 1


def port_from_environment() -> int:
    """``$PORT``. Ends the program with exit code 2 where it is missing or no port."""
    written = os.environ.get("PORT", "")
    if not written.isdecimal() or not 0 < int(written) < 65536:
        sys.exit("PORT, the port to listen on, has to be set")
    return int(written)


def serve(app: Starlette, port: int) -> None:
    """Serve plain HTTP on the loopback, until a signal.

    What the sidecar says of a request comes in its headers, so uvicorn is not to act on them.
    """
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="asyncio",
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
