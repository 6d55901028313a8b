"""``isthmus run -- CMD``: a process inside the mesh of a running ``up``."""

from __future__ import annotations

import asyncio
import os
import signal
from enum import Enum
from typing import Annotated

import typer

from isthmus.api.client import ApiClient
from isthmus.cli.option import DEFAULT_STATE, State, read_labels
from isthmus.errors import Refused
from isthmus.model.proxy import Role
from isthmus.model.workload import Network
from isthmus.proxy.child import check_program
from isthmus.proxy.namespace import Inside, inside_of
from isthmus.proxy.place import Folders
from isthmus.state import StateDir

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNALLED = 128


class NetworkOption(Enum):
    """``--network``."""

    host = "host"
    isolated = "isolated"


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NS")] = "default",
    service_account: Annotated[str, typer.Option("--service-account", metavar="SA")] = "default",
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="K=V", help="Repeatable.")] = None,
    network: Annotated[
        NetworkOption,
        typer.Option(help="isolated: one of its own, in which there is nothing but its sidecar (Linux)."),
    ] = NetworkOption.host,
    state: State = DEFAULT_STATE,
) -> int:
    """Run a process with a sidecar and an identity of its own; end with its exit code.

    Plain HTTP goes through the mesh by way of http_proxy: the caller's routes, mutual TLS, the callee's policies.

    Examples:

        isthmus run -- curl http://orders.shop.svc.cluster.local:8080/health

        isthmus run -n shop --service-account orders -- bash

        isthmus run -n shop --network isolated -- ./worker
    """
    labels = read_labels(label)
    guest = _Guest(StateDir.at(state), namespace, service_account, labels, network is NetworkOption.isolated)
    return asyncio.run(guest.run(tuple(command)))


class _Guest:
    """A workload that lives as long as its command."""

    def __init__(
        self, state: StateDir, namespace: str, service_account: str, labels: dict[str, str], isolated: bool
    ) -> None:
        self._state = state
        self._namespace = namespace
        self._service_account = service_account
        self._labels = labels
        self._isolated = isolated

    async def run(self, argv: tuple[str, ...]) -> int:
        """Its exit code, as a shell's."""
        client = ApiClient(self._state.api_socket)
        network = Network.ISOLATED if self._isolated else Network.HOST
        held = client.workload(self._namespace, self._service_account, self._labels, network.value, _say_lost)
        async with held as workload:
            env = {**os.environ, **workload["env"]}
            inside = self._inside(workload["name"]) if self._isolated else None
            try:
                check_program(argv[0], None, env)
                child = await _start(argv, env, inside)
            except (FileNotFoundError, PermissionError) as error:
                typer.echo(f"isthmus: {argv[0]}: {error.strerror}", err=True)
                return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, _pass_on, child, number)
            code = await child.wait()
            return _SIGNALLED - code if code < 0 else code

    def _inside(self, name: str) -> Inside:
        """Where its sidecar is already. Raises Refused if that is the machine's own network."""
        folders = Folders(self._state.path, self._state.runtime)
        sidecar = folders.admin_socket(f"{Role.SIDECAR.value}~{self._namespace}~{name}")
        found = inside_of(sidecar, folders.state, folders.runtime, shown=(folders.workload_socket.parent,))
        if found is None:
            raise Refused("this system allows no network of its own: `isthmus up` said why when it started")
        return found


async def _start(argv: tuple[str, ...], env: dict[str, str], inside: Inside | None) -> asyncio.subprocess.Process:
    if inside is None:
        return await asyncio.create_subprocess_exec(*argv, env=env)
    try:
        return await asyncio.create_subprocess_exec(*inside.wrap(argv), env=env, pass_fds=inside.descriptors)
    finally:
        inside.close()


def _say_lost(why: str) -> None:
    typer.echo(f"isthmus: this command has lost its mesh, its calls reach nobody: {why}", err=True)


def _pass_on(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """A terminal's Ctrl-C reaches the child by itself; we wait for what it makes of it."""
    if number is not signal.SIGINT and child.returncode is None:
        child.send_signal(number)
