"""``isthmus proxy``: this machine carries a gateway, or a program with a sidecar, for a control plane elsewhere."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.carry import Carry, carry
from isthmus.cli.option import DEFAULT_STATE, State, read_labels
from isthmus.cli.publish import PublishHere, read_published
from isthmus.errors import Refused
from isthmus.kinds.shape.service_account import service_account_problem
from isthmus.model.offer import GatewayOffer, Offer, OfferedPort, SidecarOffer
from isthmus.model.world import Address
from isthmus.proxy.ports import PortBook, check_published

DEFAULT_PORT = 15012
"""istiod's, for the same purpose."""
LOOPBACK = "127.0.0.1"
_STDIN = "-"

app = typer.Typer(
    name="proxy",
    help="Carry a gateway or a program with a sidecar on this machine, for a control plane on another.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

ControlPlane = Annotated[
    str,
    typer.Option("--control-plane", metavar="HOST[:PORT]", help=f"Port {DEFAULT_PORT} by default."),
]
Join = Annotated[
    str | None,
    typer.Option(
        "--join",
        metavar="TOKEN",
        envvar="ISTHMUS_JOIN_TOKEN",
        help="Once. Better by the variable: arguments are seen.",
    ),
]
JoinFile = Annotated[
    str | None, typer.Option("--join-file", metavar="FILE", help="The join token in a file; - is standard input.")
]
OwnAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="IP",
        help="This machine, for others; by default its address towards the control plane.",
    ),
]
ReadyFile = Annotated[
    Path | None, typer.Option("--ready-file", metavar="F", help="Written whole when the proxy takes traffic.")
]


@app.callback()
def _group() -> None:
    pass


@app.command()
def gateway(
    control_plane: ControlPlane,
    gateway: Annotated[str, typer.Option("--gateway", metavar="NS/NAME", help="The gateway's proxy.")],
    join: Join = None,
    join_file: JoinFile = None,
    address: OwnAddress = None,
    publish: PublishHere = None,
    ready_file: ReadyFile = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Carry the proxy of a gateway here. Its declared ports are opened on --address, unless -p says elsewhere.

    Examples:

        isthmus proxy gateway --control-plane 10.0.0.1 --gateway shop/edge --join-file edge.token

        isthmus proxy gateway --control-plane 10.0.0.1 --gateway shop/edge --address 192.0.2.10 -p 192.0.2.10:8443:443
    """
    namespace, name = _two(gateway, "--gateway")
    published = read_published(publish)
    check_published(published)
    at = _address_of(control_plane)
    own = _own_address(address, at)
    places = {one.declared: Address(one.address, one.port) for one in published}

    def offer(runtime: Path, _ports: PortBook) -> Offer:
        return GatewayOffer(namespace, name, own, str(runtime), places, at)

    return asyncio.run(carry(Carry(at, _token(join, join_file), state, offer, (), ready_file)))


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def sidecar(
    control_plane: ControlPlane,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CMD...]", help="The program; else it is started by others.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NS")] = "default",
    service_account: Annotated[str, typer.Option("--service-account", metavar="SA")] = "default",
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="K=V", help="Repeatable.")] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            metavar="NAME:NUMBER[=APP]",
            help="The sidecar takes NUMBER of --address, the program APP of 127.0.0.1 (the same number). Repeatable.",
        ),
    ] = None,
    workload_group: Annotated[
        str | None, typer.Option("--workload-group", metavar="NS/NAME", help="Labels, account and ports are its own.")
    ] = None,
    exec_probe: Annotated[
        bool, typer.Option("--allow-exec-probe", help="The group's probe may run commands here, as this user.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", metavar="F", help="The program's environment, for one started by others (0600)."),
    ] = None,
    join: Join = None,
    join_file: JoinFile = None,
    address: OwnAddress = None,
    ready_file: ReadyFile = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Carry a program of the mesh here, with a sidecar. CMD starts when that takes traffic, and is kept alive.

    Examples:

        isthmus proxy sidecar --control-plane 10.0.0.1 -n shop --service-account orders -l app=orders
        --port http:8080=9000 --join-file vm.token -- ./orders --listen 127.0.0.1:9000

        isthmus proxy sidecar --control-plane 10.0.0.1 --workload-group shop/orders --env-file orders.env
    """
    at = _address_of(control_plane)
    group = None
    if workload_group is not None:
        namespace, group = _two(workload_group, "--workload-group")
        if label or service_account != "default":
            raise typer.BadParameter("labels and account are the group's own", param_hint="--workload-group")
    problem = service_account_problem(service_account)
    if problem is not None:
        raise typer.BadParameter(problem, param_hint="--service-account")
    workload = _Workload(namespace, service_account, read_labels(label), tuple(map(_port, port or ())), group)
    own = _own_address(address, at)

    def offer(runtime: Path, ports: PortBook) -> Offer:
        outbound = ports.kept("sidecar", "outbound", LOOPBACK).port
        return replace(workload.offer(own, str(runtime), outbound), control_plane=at)

    wanted = Carry(at, _token(join, join_file), state, offer, tuple(command or ()), ready_file, env_file, exec_probe)
    return asyncio.run(carry(wanted))


@dataclass(frozen=True, slots=True)
class _Workload:
    """What the options say of the program."""

    namespace: str
    service_account: str
    labels: dict[str, str]
    ports: tuple[OfferedPort, ...]
    group: str | None

    def offer(self, address: str, runtime: str, outbound: int) -> SidecarOffer:
        return SidecarOffer(
            self.namespace, self.service_account, address, runtime, outbound, self.labels, self.ports, self.group
        )


def _two(written: str, hint: str) -> tuple[str, str]:
    namespace, slash, name = written.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise typer.BadParameter(f'"{written}" is not NAMESPACE/NAME', param_hint=hint)
    return namespace, name


def _port(written: str) -> OfferedPort:
    name, _, numbers = written.partition(":")
    number, equals, app_port = numbers.partition("=")
    try:
        port = OfferedPort(name, int(number), int(app_port if equals else number))
    except ValueError:
        port = OfferedPort("", 0, 0)
    if not port.name or not all(1 <= each <= 65535 for each in (port.number, port.app)):
        raise typer.BadParameter(f'"{written}" is not NAME:NUMBER or NAME:NUMBER=APP', param_hint="--port")
    return port


def _address_of(written: str) -> Address:
    host, colon, port = written.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = written, str(DEFAULT_PORT)
    if not port.isdecimal() or not 1 <= int(port) <= 65535 or not host:
        raise typer.BadParameter(f'"{written}" is not HOST or HOST:PORT', param_hint="--control-plane")
    return Address(host.strip("[]"), int(port))


def _own_address(written: str | None, control_plane: Address) -> str:
    """As given, or by which this machine goes to the control plane: a connected UDP socket sends nothing."""
    if written is not None:
        try:
            return str(ip_address(written))
        except ValueError:
            raise typer.BadParameter(f'"{written}" is not an IP address', param_hint="--address") from None
    try:
        family, kind, *_, place = socket.getaddrinfo(control_plane.host, control_plane.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except OSError as failed:
        own = "" if isinstance(failed, socket.gaierror) else " (--address names this machine's own address)"
        raise Refused(f"no way to {control_plane}: {failed.strerror or failed}{own}") from failed


def _token(join: str | None, join_file: str | None) -> str | None:
    """The join token, if any; it must not reach the programs that are started here."""
    os.environ.pop("ISTHMUS_JOIN_TOKEN", None)
    if join_file is None:
        return join
    if join_file == _STDIN:
        return sys.stdin.read()
    try:
        return Path(join_file).read_text()
    except (OSError, UnicodeDecodeError) as failed:
        raise Refused(f"{join_file}: the join token cannot be read: {failed}") from failed
