"""Options of what is run: published ports, keys of issuers, certificates' lives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.report import print_text
from isthmus.config.decode import parse_duration
from isthmus.diag import Place, Report, Source
from isthmus.errors import JwksUnavailable
from isthmus.jwks.store import JWKS_FILE, read_file
from isthmus.proxy.ports import Published

LOOPBACK = "127.0.0.1"
LEAST_TTL = timedelta(seconds=10)

Publish = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--publish",
        metavar="[ADDR:]HOST:DECLARED",
        help="Open a gateway's declared port at this port of the machine (127.0.0.1 unless ADDR says otherwise); "
        "NS/GATEWAY:HOST:DECLARED names the gateway. Without it: a free port, printed. Repeatable.",
    ),
]
PublishHere = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--publish",
        metavar="[ADDR:]HOST:DECLARED",
        help="Open a declared port at this port of the machine (127.0.0.1 unless ADDR says otherwise). Without it: the "
        "declared port, on --address. Repeatable.",
    ),
]
"""Of ``isthmus proxy gateway``."""
Jwks = Annotated[
    list[str] | None,
    typer.Option("--jwks", metavar="ISSUER=FILE", help="An issuer's keys from a file, not fetched. Repeatable."),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="DIR",
        help="Sign with the authority in this folder (Istio's cacerts, or cert-manager's tls.crt, tls.key, ca.crt).",
    ),
]
SvidTtl = Annotated[
    str, typer.Option("--svid-ttl", metavar="D", help="How long a workload's certificate lives (at least 10s).")
]

JwksRefresh = Annotated[
    str, typer.Option("--jwks-refresh", metavar="D", help="How often issuers' keys are fetched anew (at least 1s).")
]

_PUBLISHED = re.compile(
    r"(?:(?P<gateway>[^:\[\]]+/[^:]+):|(?:(?P<address>\[[0-9a-fA-F:]+\]|[^:/]+):)?)(?P<port>\d+):(?P<declared>\d+)"
)


def read_published(written: Sequence[str] | None) -> tuple[Published, ...]:
    """Raises BadParameter for anything that is not of one of the forms."""
    return tuple(_published(one) for one in written or ())


def _published(written: str) -> Published:
    found = _PUBLISHED.fullmatch(written)
    if found is None:
        raise typer.BadParameter(
            f'"{written}" is not [ADDR:]HOST:DECLARED or NS/GATEWAY:HOST:DECLARED', param_hint="-p"
        )
    port, declared = int(found["port"]), int(found["declared"])
    if not (1 <= port <= 65535 and 1 <= declared <= 65535):
        raise typer.BadParameter(f'"{written}": a port is 1 to 65535', param_hint="-p")
    address = (found["address"] or LOOPBACK).strip("[]")
    try:
        ip_address(address)
    except ValueError:
        raise typer.BadParameter(f'"{address}" is not an IP address', param_hint="-p") from None
    return Published(address, port, declared, found["gateway"])


def read_jwks_files(written: Sequence[str] | None) -> Mapping[str, Path]:
    """The files by issuer. Ends the command with exit code 1, before anything starts, if one is no key set."""
    files: dict[str, Path] = {}
    report = Report()
    for one in written or ():
        # The last "=" splits: an issuer's URL may have one, a file name hardly.
        issuer, equals, file = one.rpartition("=")
        if not equals or not issuer or not file:
            raise typer.BadParameter(f'"{one}" is not ISSUER=FILE', param_hint="--jwks")
        path = Path(file)
        files[issuer] = path.absolute()
        try:
            read_file(path)
        except JwksUnavailable as wrong:
            reason = str(wrong).removeprefix(f"{path}: ")
            report.add(JWKS_FILE, Place(Source(file, 1, 1)), issuer=issuer, reason=reason)
    if report.errors:
        print_text(report)
        raise typer.Exit(EXIT_USER)
    return files


def read_jwks_refresh(written: str) -> timedelta:
    every = parse_duration(written)
    if every is None or every < timedelta(seconds=1):
        raise typer.BadParameter(f'"{written}" is not a duration of at least 1s', param_hint="--jwks-refresh")
    return every


def read_svid_ttl(written: str) -> timedelta:
    ttl = parse_duration(written)
    if ttl is None:
        raise typer.BadParameter(f'"{written}" is not a duration (such as 1h)', param_hint="--svid-ttl")
    if ttl < LEAST_TTL:
        raise typer.BadParameter("a certificate lives at least 10s", param_hint="--svid-ttl")
    return ttl
