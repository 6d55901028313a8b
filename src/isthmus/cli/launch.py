"""Starting everything on this machine, for ``up`` and ``demo``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from isthmus.api.client import ApiClient
from isthmus.cli import ready_file
from isthmus.cli.bundle_endpoint import as_arguments
from isthmus.cli.report import print_text
from isthmus.config.load import NO_SUCH_PATH, STDIN
from isthmus.diag import Place, Report, Source
from isthmus.errors import IsthmusError, ManifestsBroken
from isthmus.proxy.crew import CrewSettings
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, from_json
from isthmus.proxy.ports import check_published
from isthmus.proxy.state_guard import guard
from isthmus.proxy.supervise import Supervisor, SupervisorSettings
from isthmus.proxy.workload_api.socket_file import check as check_socket
from isthmus.serve.options import ServeOptions
from isthmus.state import Held, StateDir
from isthmus.xds.relay import RELAY_ID

_POLL_SECONDS = 0.05
_PROGRAM_SECONDS = 20.0
"""How long local programs are waited for: one may have reasons not to listen yet, or never to."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: the control plane of ``options``, and all that it plans for this machine."""

    options: ServeOptions
    ready_file: Path | None = None
    workload_api: Path | None = None
    """A socket of the Workload API for every user of the machine, beside that of the state."""


OnReady = Callable[[dict[str, Any]], Awaitable[int | None]]
"""Called once with the ready document; an exit code ends everything, None leaves it running."""


async def launch(wanted: Launch, on_ready: OnReady) -> int:
    """Run until a signal, or until ``on_ready`` answers an exit code. Raises Refused, such as PortTaken."""
    _check_paths(wanted.options.paths)
    check_published(wanted.options.published)
    if wanted.workload_api is not None:
        check_socket(wanted.workload_api)
    with StateDir.at(wanted.options.state).hold("up") as held:
        if wanted.ready_file is not None:
            ready_file.clear(wanted.ready_file)
        folders = Folders(held.state.path, held.runtime)
        client = ApiClient(held.runtime / "api.sock")
        settings = SupervisorSettings(
            crew=CrewSettings(folders, output=_print_line),
            control_plane=_control_plane(wanted.options, held),
            agent=_agent(wanted, folders),
        )
        supervisor = Supervisor(
            settings, lambda version: _next_plan(client, version), client.join_token, _say, client.tell_listening
        )
        running = asyncio.create_task(supervisor.run())
        ready = partial(_until_ready, client, folders.admin_socket(RELAY_ID))
        guarding = asyncio.create_task(guard(held, partial(_say, "state")))
        announcing = asyncio.create_task(_when_ready(ready, supervisor, wanted, on_ready))
        try:
            await asyncio.wait({running, announcing}, return_when=asyncio.FIRST_COMPLETED)
            if announcing.done() and (code := announcing.result()) is not None:
                supervisor.stop()
                await running
                return code
            return await running
        finally:
            guarding.cancel()
            announcing.cancel()
            supervisor.stop()
            with suppress(asyncio.CancelledError, IsthmusError):
                await running
            if wanted.ready_file is not None:
                ready_file.remove(wanted.ready_file)


def _check_paths(paths: Sequence[str]) -> None:
    """A mistyped path is no mesh that vanished. Raises ManifestsBroken."""
    report = Report()
    for path in paths:
        if path != STDIN and not Path(path).exists():
            report.add(NO_SUCH_PATH, Place(Source(path, 1, 1)))
    if len(report):
        print_text(report)
        raise ManifestsBroken("nothing is started")


_ISTHMUS = (sys.executable, "-m", "isthmus")


def _agent(wanted: Launch, folders: Folders) -> tuple[str, ...]:
    argv = (*_ISTHMUS, "agent", "--state", str(folders.state), "--runtime", str(folders.runtime))
    more = () if wanted.workload_api is None else ("--workload-api-socket", str(wanted.workload_api))
    return (*argv, *more, *_spire(wanted.options))


def _spire(options: ServeOptions) -> tuple[str, ...]:
    return () if options.spire is None else ("--spire-socket", str(options.spire))


def _control_plane(options: ServeOptions, held: Held) -> tuple[str, ...]:
    argv = [*_ISTHMUS, "serve", "--state", str(held.state.path), "--supervisor", str(os.getpid())]
    for one in options.published:
        where = one.gateway or (f"[{one.address}]" if ":" in one.address else one.address)
        argv += ["-p", f"{where}:{one.port}:{one.declared}"]
    for issuer, file in options.jwks_files.items():
        argv += ["--jwks", f"{issuer}={file}"]
    argv += ["--jwks-refresh", f"{options.jwks_refresh.total_seconds()}s"]
    argv += ["--svid-ttl", f"{int(options.svid_ttl.total_seconds())}s"]
    if options.strict:
        argv.append("--strict")
    argv += as_arguments(options.bundle_endpoint)
    argv += _spire(options)
    if options.ca is not None:
        argv += ["--ca", str(options.ca.absolute())]
    return (*argv, "--", *_without_stdin(options.paths, held.runtime))


def _without_stdin(paths: Sequence[str], runtime: Path) -> list[str]:
    """The control plane's standard input is its life line, so what comes by ours is put aside for it."""
    if STDIN in paths:
        aside = runtime / "stdin.yaml"
        aside.write_bytes(sys.stdin.buffer.read())
        return [str(aside) if path == STDIN else path for path in paths]
    return list(paths)


async def _next_plan(client: ApiClient, version: int | None) -> Plan:
    while True:
        found = await client.plan(-1 if version is None else version)
        if found is not None:
            return from_json(found)


async def _when_ready(
    until_ready: Callable[[], Awaitable[dict[str, Any]]], supervisor: Supervisor, wanted: Launch, on_ready: OnReady
) -> int | None:
    ready = await until_ready()
    await _until_programs_listen(supervisor)
    if wanted.ready_file is not None:
        ready_file.write(wanted.ready_file, ready)
    return await on_ready(ready)


async def _until_ready(client: ApiClient, relay: Path) -> dict[str, Any]:
    """Every proxy is in sync, and has opened every listener: a listener that waits for its key is no listener yet.

    ``relay``: its admin socket, if there is one.
    """
    while True:
        with suppress(IsthmusError, OSError):
            ready, document = await client.ready()
            if ready and await _all_open(document, relay):
                return document
        await asyncio.sleep(_POLL_SECONDS)


async def _until_programs_listen(supervisor: Supervisor) -> None:
    """Ready is about answers, not proxies: a program that ``up`` started has to be there for the first request."""
    deadline = time.monotonic() + _PROGRAM_SECONDS
    while silent := await supervisor.silent():
        if time.monotonic() > deadline:
            _say(", ".join(silent), "nothing listens on its port yet: requests are answered with 503 until it does")
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _all_open(document: dict[str, Any], relay: Path) -> bool:
    sockets = [Path(proxy["admin_socket"]) for proxy in (*document["gateways"], *document["workloads"])]
    if any(workload["isolated"] for workload in document["workloads"]):
        sockets.append(relay)
    for socket in sockets:
        stats = await AdminClient(socket).stats("listener_manager.total_listeners_(warming|active)")
        if stats.get("listener_manager.total_listeners_warming", 1) != 0:
            return False
    return True


def _say(who: str, what: str) -> None:
    _print_line(f"{who}: {what}")


def _print_line(line: str) -> None:
    # A terminal that is gone, or a full disk behind it, is no reason to end what runs.
    with suppress(OSError):
        typer.echo(line, err=True)
