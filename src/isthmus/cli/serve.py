"""``isthmus serve``: the control plane alone."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

from isthmus.cli.option import DEFAULT_STATE, Paths, State
from isthmus.cli.publish import (
    Jwks,
    JwksRefresh,
    Publish,
    SvidTtl,
    read_jwks_files,
    read_jwks_refresh,
    read_published,
    read_svid_ttl,
)
from isthmus.cli.report import print_text
from isthmus.diag import Diagnostic
from isthmus.proxy.state_guard import guard
from isthmus.serve import ServeOptions
from isthmus.serve import serve as serve_control_plane
from isthmus.state import Held, StateDir

_log = logging.getLogger(__name__)

Strict = Annotated[bool, typer.Option("--strict", help="Any error ends the start, unresolved references too.")]


def serve(
    paths: Paths,
    publish: Publish = None,
    jwks: Jwks = None,
    jwks_refresh: JwksRefresh = "20m",
    svid_ttl: SvidTtl = "1h",
    strict: Strict = False,
    supervisor: Annotated[int | None, typer.Option("--supervisor", hidden=True)] = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Run the control plane alone: certificate authority, xDS and API. `isthmus up` runs it together with the rest.

    Example:

        isthmus serve shop/ --state /var/lib/isthmus
    """
    logging.basicConfig(level=logging.WARNING, format="isthmus: %(message)s")
    folder = StateDir.at(state)
    options = ServeOptions(
        paths=tuple(paths),
        state=folder.path,
        published=read_published(publish),
        jwks_files=read_jwks_files(jwks),
        jwks_refresh=read_jwks_refresh(jwks_refresh),
        svid_ttl=read_svid_ttl(svid_ttl),
        strict=strict,
        supervisor=supervisor,
    )
    with folder.hold("serve") if supervisor is None else nullcontext() as held:
        asyncio.run(_until_signalled(options, held))
    return 0


async def _until_signalled(options: ServeOptions, held: Held | None) -> None:
    """``held``: the state, unless a supervisor holds it."""
    loop = asyncio.get_running_loop()
    guarding = asyncio.create_task(guard(held, _log.warning)) if held is not None else None
    running = asyncio.ensure_future(serve_control_plane(options, _show))
    if options.supervisor is None:
        loop.add_signal_handler(signal.SIGINT, running.cancel)
    else:
        # A terminal's Ctrl-C is for the supervisor, which drains first and ends us last.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
    if guarding is not None:
        guarding.cancel()


def _show(found: Sequence[Diagnostic]) -> None:
    with suppress(OSError):
        print_text(found)
