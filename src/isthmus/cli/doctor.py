"""``isthmus doctor``: what is wrong, in plain words, and how to mend it."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from isthmus.cli.exit import EXIT_USAGE, EXIT_USER
from isthmus.cli.option import Format, Output
from isthmus.cli.report import print_json
from isthmus.doctor.fetch import Target, look_at, versions_of
from isthmus.doctor.observed import Observed
from isthmus.doctor.report import Finding, Level, judge, wrong
from isthmus.errors import EnvoyFailed, Refused, StateUnusable
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.place import Folders
from isthmus.state import StateDir

app = typer.Typer(
    name="doctor",
    help="Say in plain words what is wrong, and how to mend it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
_STYLES = {Level.WRONG: "bold red", Level.NOTE: "yellow", Level.GOOD: "green"}


@app.callback()
def _group() -> None:
    pass


@app.command()
def tls(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="A server, ours or anybody's.")],
    sni: Annotated[str, typer.Option("--sni", metavar="NAME", help="The server name to ask for (else HOST).")] = "",
    cert: Annotated[
        Path | None,
        typer.Option(
            "--cert", metavar="FILE", exists=True, dir_okay=False, help="A client's certificate, with its chain (PEM)."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", exists=True, dir_okay=False, help="Its key (PEM); without it, in the same file."
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", metavar="FILE", exists=True, dir_okay=False, help="Roots to believe (PEM), instead of the system's."
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="The state of the mesh whose gateway this should be.")
    ] = None,
    output: Output = Format.TEXT,
) -> int:
    """Look at a server's TLS: versions, ciphers, chain, name, clock, and what it demands of clients.

    With --state the mesh's root is believed, and the certificate is compared with those of its gateways: whether
    something in between answers. Exits 1 if anything is wrong.

    Examples:

        isthmus doctor tls shop.example.com:8443 --state .isthmus

        isthmus doctor tls 127.0.0.1:8443 --sni shop.example.com --ca roots.pem --cert client.pem --key client.key
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return _usage(f"{address} is not HOST:PORT")
    if key is not None and cert is None:
        return _usage("--key without --cert")
    roots, trusted_by = _roots(ca, state)
    own = None if cert is None else (cert, key or cert)
    serials = None if state is None else asyncio.run(_serials(state))
    target = Target(host, int(port), sni or host, roots, trusted_by, own, serials)
    try:
        seen = look_at(target)
    except (OSError, ValueError, ssl.SSLError) as failed:
        return _usage(f"the client's certificate or key, or the roots, cannot be used: {failed}")
    findings = judge(seen, datetime.now(UTC))
    if output is Format.JSON:
        print_json(_as_json(address, seen, findings))
    else:
        _print(findings)
    return EXIT_USER if wrong(findings) else 0


def _usage(text: str) -> int:
    typer.echo(f"isthmus: {text}", err=True)
    return EXIT_USAGE


def _roots(ca: Path | None, state: Path | None) -> tuple[str, str]:
    """PEM, and whose they are."""
    if ca is not None:
        return ca.read_text(), str(ca)
    if state is None:
        return "", "the system's roots"
    found = StateDir.at(state).read("ca/bundle.pem") or StateDir.at(state).read("ca/root.pem")
    if found is None:
        raise Refused(f"no certificate authority in {state} yet (isthmus up makes one)")
    return found.decode(), f"the mesh of {state}"


async def _serials(state: Path) -> frozenset[int] | None:
    """Of every certificate that an Envoy of this state shows; None: none of them could be asked."""
    directory = StateDir.at(state)
    try:
        sockets = sorted(Folders(directory.path, directory.runtime).admin_sockets())
    except StateUnusable:
        # Nothing runs with it here: its roots are known all the same.
        return None
    found: set[int] = set()
    asked = False
    for socket in sockets:
        try:
            certificates = (await AdminClient(socket).certificates()).certificates
        except EnvoyFailed:
            continue
        asked = True
        found.update(int(one.serial_number, 16) for held in certificates for one in held.cert_chain)
    return frozenset(found) if asked else None


def _print(findings: tuple[Finding, ...]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        line = Text(f"{finding.level.value:5} ", style=_STYLES[finding.level])
        console.print(line + Text(f"{finding.check}: {finding.text}", style="default"))
        if finding.mend:
            console.print(Text(f"      → {finding.mend}"))


def _as_json(address: str, seen: Observed, findings: tuple[Finding, ...]) -> dict[str, object]:
    return {
        "target": address,
        "server_name": seen.name,
        "wrong": wrong(findings),
        "versions": dict(versions_of(seen)),
        "ciphers": list(seen.ciphers),
        "client_certificate_cas": None if seen.wanted is None else list(seen.wanted),
        "findings": [
            {"level": one.level.value, "check": one.check, "text": one.text, "mend": one.mend} for one in findings
        ],
    }
