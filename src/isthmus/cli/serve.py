"""``isthmus serve``: the control plane alone."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

from isthmus.cli.bundle_endpoint import DEFAULT_HINT, Certificate, Endpoint, Hint, Key, read_bundle_endpoint
from isthmus.cli.option import DEFAULT_STATE, Paths, SpireSocket, State, Strict
from isthmus.cli.publish import (
    Ca,
    Jwks,
    JwksRefresh,
    Publish,
    read_jwks_files,
    read_jwks_refresh,
    read_published,
    read_svid_ttl,
)
from isthmus.cli.reach import EnrolListen, Listen, NodeGrace, advertised, read_listen, read_node_grace
from isthmus.cli.report import print_text
from isthmus.diag import Diagnostic
from isthmus.proxy.state_guard import guard
from isthmus.proxy.workload_api.socket_file import socket_path
from isthmus.serve.options import ServeOptions
from isthmus.serve.services import serve as serve_control_plane
from isthmus.state import Held, StateDir

_log = logging.getLogger(__name__)

DEFAULT_TTL = "1h"
SEVERAL_TTL = "3h"
"""With other machines: renewed at half, it outlasts an hour without a control plane whenever that begins."""


def serve(
    paths: Paths,
    publish: Publish = None,
    jwks: Jwks = None,
    jwks_refresh: JwksRefresh = "20m",
    svid_ttl: Annotated[
        str | None,
        typer.Option("--svid-ttl", metavar="D", help="How long a workload's certificate lives: 1h; with --listen 3h."),
    ] = None,
    strict: Strict = False,
    ca: Ca = None,
    bundle_endpoint: Endpoint = None,
    bundle_cert: Certificate = None,
    bundle_key: Key = None,
    bundle_refresh_hint: Hint = DEFAULT_HINT,
    listen: Listen = None,
    enrol_listen: EnrolListen = None,
    node_grace: NodeGrace = "30s",
    spire_socket: SpireSocket = None,
    supervisor: Annotated[int | None, typer.Option("--supervisor", hidden=True)] = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Run the control plane alone: certificate authority, xDS and API. `isthmus up` runs it together with the rest.

    With --listen other machines join it (`isthmus node token`), and carry the gateways and programs of the mesh.

    Examples:

        isthmus serve shop/ --state /var/lib/isthmus

        isthmus serve shop/ --state /var/lib/isthmus --listen 10.0.0.1:15012
    """
    logging.basicConfig(level=logging.WARNING, format="isthmus: %(message)s")
    folder = StateDir.at(state)
    options = ServeOptions(
        paths=tuple(paths),
        state=folder.path,
        published=read_published(publish),
        jwks_files=read_jwks_files(jwks),
        jwks_refresh=read_jwks_refresh(jwks_refresh),
        svid_ttl=read_svid_ttl(svid_ttl or (DEFAULT_TTL if listen is None else SEVERAL_TTL)),
        strict=strict,
        ca=ca.absolute() if ca is not None else None,
        bundle_endpoint=read_bundle_endpoint(bundle_endpoint, bundle_cert, bundle_key, bundle_refresh_hint),
        supervisor=supervisor,
        spire=socket_path(spire_socket) if spire_socket is not None else None,
        listen=(listening := read_listen(listen, "--listen")),
        enrol=read_listen(enrol_listen, "--enrol-listen"),
        advertised=advertised(listening),
        node_grace=read_node_grace(node_grace),
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
