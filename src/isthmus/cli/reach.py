"""Options of a control plane that other machines join."""

from __future__ import annotations

import socket
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated

import typer

from isthmus.config.decode import parse_duration
from isthmus.model.world import Address

Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="ADDR:PORT", help="Let other machines join: ADS, certificates and plans, here."),
]
EnrolListen = Annotated[
    str | None,
    typer.Option(
        "--enrol-listen", metavar="ADDR:PORT", help="Where they show their join tokens; by default, PORT + 1."
    ),
]
NodeGrace = Annotated[
    str,
    typer.Option("--node-grace", metavar="D", help="How long a machine may be away before nobody is sent there."),
]


def read_listen(written: str | None, hint: str) -> Address | None:
    """Raises BadParameter: no IP address with a port."""
    if written is None:
        return None
    host, _, port = written.rpartition(":")
    try:
        address = Address(str(ip_address(host.strip("[]"))), int(port))
    except ValueError:
        raise typer.BadParameter(f'"{written}" is not an IP address with a port', param_hint=hint) from None
    if not 1 <= address.port <= 65534:
        raise typer.BadParameter(f'"{written}": a port is 1 to 65534', param_hint=hint)
    return address


def read_node_grace(written: str) -> timedelta:
    grace = parse_duration(written)
    if grace is None or grace <= timedelta():
        raise typer.BadParameter(f'"{written}" is not a duration (such as 30s)', param_hint="--node-grace")
    return grace


def advertised(listen: Address | None) -> str:
    """What other machines are told to call: the address, or this machine's name where that is every address."""
    if listen is None or not ip_address(listen.host).is_unspecified:
        return listen.host if listen is not None else ""
    return socket.gethostname()
