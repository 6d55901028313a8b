"""``isthmus node``: other machines of this control plane."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from isthmus.api.client import ApiClient
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State, read_labels
from isthmus.cli.report import print_json
from isthmus.config.decode import parse_duration
from isthmus.model.offer import Scope, ScopeKind
from isthmus.state import StateDir

app = typer.Typer(
    name="node",
    help="Other machines: let them in, list them, put them out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the machine is called from now on.")],
    gateway: Annotated[
        str | None, typer.Option("--gateway", metavar="NS/NAME", help="It carries the proxy of this gateway.")
    ] = None,
    sidecar: Annotated[
        str | None, typer.Option("--sidecar", metavar="NS/SA", help="It carries a program with this service account.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--workload-group", metavar="NS/NAME", help="It carries a program of this group.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V", help="A label that the program of --sidecar may have; may be repeated."),
    ] = None,
    ttl: Annotated[str, typer.Option("--ttl", metavar="D", help="How long the token can be used (1s to 24h).")] = "10m",
    target: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the token there (0600), and print none.")
    ] = None,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Make a join token, for one use by one machine, and print the command to run there.

    The machine can be what the token says, and nothing else.

    Examples:

        isthmus node token edge-1 --gateway shop/edge

        isthmus node token vm-7 --sidecar shop/orders --label app=orders --ttl 1h --out vm-7.token
    """
    scope = _scope({ScopeKind.GATEWAY: gateway, ScopeKind.SIDECAR: sidecar, ScopeKind.GROUP: group}, label)
    seconds = parse_duration(ttl)
    if seconds is None:
        raise typer.BadParameter(f'"{ttl}" is not a duration (such as 10m)', param_hint="--ttl")
    client = ApiClient(StateDir.at(state).api_socket)
    made = asyncio.run(client.invite(name, str(scope), int(seconds.total_seconds())))
    if target is not None:
        StateDir.at(target.absolute().parent).write_private(target.name, f"{made['token']}\n".encode())
    command = _command(scope, made["control_plane"], target)
    if output is Format.JSON:
        print_json({key: made[key] for key in made if target is None or key != "token"} | {"command": command})
        return 0
    until = datetime.fromisoformat(made["expires"])
    typer.echo(f"# on the machine {name}, once, before {until:%H:%M:%S} UTC:", err=True)
    if target is None:
        typer.echo(f"export ISTHMUS_JOIN_TOKEN={made['token']}")
    typer.echo(command)
    return 0


def _scope(given: Mapping[ScopeKind, str | None], label: list[str] | None) -> Scope:
    """What the options say the machine may be. Raises BadParameter."""
    scopes = [(kind, value) for kind, value in given.items() if value is not None]
    if len(scopes) != 1:
        raise typer.BadParameter("one of --gateway, --sidecar, --workload-group says what the machine is for")
    (kind, value) = scopes[0]
    namespace, slash, named = value.partition("/")
    if not (namespace and slash and named):
        raise typer.BadParameter(f'"{value}" is not NAMESPACE/NAME', param_hint=f"--{kind.value}")
    labels = read_labels(label)
    if labels and kind is not ScopeKind.SIDECAR:
        raise typer.BadParameter("labels are for the program of --sidecar", param_hint="--label")
    return Scope(kind, namespace, named, tuple(sorted(labels.items())))


def _command(scope: Scope, control_plane: str, target: Path | None) -> str:
    argv = ["isthmus", "proxy", "gateway" if scope.kind is ScopeKind.GATEWAY else "sidecar"]
    argv += ["--control-plane", control_plane]
    match scope.kind:
        case ScopeKind.SIDECAR:
            argv += ["--namespace", scope.namespace, "--service-account", scope.name]
            argv += [word for key, text in scope.labels for word in ("--label", f"{key}={text}")]
        case kind:
            argv += [f"--{kind.value}", f"{scope.namespace}/{scope.name}"]
    if target is not None:
        argv += ["--join-file", target.name]
    return shlex.join(argv)


@app.command("list")
def list_(state: State = DEFAULT_STATE, output: Output = Format.TEXT) -> int:
    """Every machine that joined, is expected, or was put out, and what it carries.

    Examples:

        isthmus node list

        isthmus node list -o json | jq '.[] | select(.state == "away")'
    """
    found = asyncio.run(ApiClient(StateDir.at(state).api_socket).nodes())
    if output is Format.JSON:
        print_json(found)
    else:
        _print(found)
    return 0


def _print(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "STATE", "FOR", "ADDRESS", "HEALTH", "PROXIES"):
        table.add_column(column, no_wrap=True, overflow="fold")
    for node in sorted(found, key=lambda one: str(one["name"])):
        health = {None: "", True: "well", False: f"not well: {node['reason']}"}[node["healthy"]]
        table.add_row(node["name"], node["state"], node["scope"], node["address"], health, "\n".join(node["proxies"]))
    Console(soft_wrap=True, width=None if Console().is_terminal else 250).print(table)


@app.command()
def evict(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `isthmus node list` shows it.")],
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Put a machine out, at once: no configuration, no certificates, no place in the mesh, until a new token.

    Example:

        isthmus node evict vm-7
    """
    done = asyncio.run(ApiClient(StateDir.at(state).api_socket).evict(name))
    if output is Format.JSON:
        print_json(done)
    else:
        typer.echo(f"node {name} is out; it carried {', '.join(done['proxies']) or 'nothing'}", err=True)
    return 0
