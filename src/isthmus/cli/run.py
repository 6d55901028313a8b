"""``isthmus run -- CMD``: a process inside the mesh of a running ``up``."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Annotated

import typer

from isthmus.api.client import ApiClient
from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.state import StateDir

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNALLED = 128


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NS")] = "default",
    service_account: Annotated[str, typer.Option("--service-account", metavar="SA")] = "default",
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="K=V", help="Repeatable.")] = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Run a process with a sidecar and an identity of its own; end with its exit code.

    Plain HTTP goes through the mesh by way of http_proxy: the caller's routes, mutual TLS, the callee's policies.

    Examples:

        isthmus run -- curl http://orders.shop.svc.cluster.local:8080/health

        isthmus run -n shop --service-account orders -- bash
    """
    labels = {}
    for written in label or ():
        key, equals, value = written.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f'"{written}" is not K=V', param_hint="--label")
        labels[key] = value
    return asyncio.run(_run(ApiClient(StateDir.at(state).api_socket), namespace, service_account, labels, command))


async def _run(client: ApiClient, namespace: str, service_account: str, labels: dict[str, str], argv: list[str]) -> int:
    async with client.workload(namespace, service_account, labels) as workload:
        env = {**os.environ, **workload["env"]}
        try:
            child = await asyncio.create_subprocess_exec(*argv, env=env)
        except (FileNotFoundError, PermissionError) as error:
            typer.echo(f"isthmus: {argv[0]}: {error.strerror}", err=True)
            return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _pass_on, child, number)
        code = await child.wait()
        return _SIGNALLED - code if code < 0 else code


def _pass_on(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """A terminal's Ctrl-C reaches the child by itself; we wait for what it makes of it."""
    if number is not signal.SIGINT and child.returncode is None:
        child.send_signal(number)
