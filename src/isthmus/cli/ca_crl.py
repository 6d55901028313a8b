"""``isthmus ca crl``: the lists of revoked certificates (CRL) of our authority."""

from __future__ import annotations

import base64
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.authority import authority_of
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.errors import Refused


def crl(
    show: Annotated[bool, typer.Option("--show", help="Say in words what is on the lists.")] = False,
    der: Annotated[bool, typer.Option("--der", help="DER: the list of the certificate that signs now, alone.")] = False,
    target: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file.")] = None,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Print the lists of revoked certificates (PEM): of what signs now first, then of replaced signers.

    For clients and servers outside the mesh. Proxies of the mesh have them by themselves.

    Examples:

        isthmus ca crl --out mesh.crl

        isthmus ca crl --show
    """
    if (der or target is not None) and (show or output is Format.JSON):
        raise typer.BadParameter("--der and --out are for the lists themselves: not with --show or --output json")
    with authority_of(state) as authority:
        lists = authority.lists()
    if not lists:
        raise Refused("the signing certificate may sign no list of revoked certificates (cRLSign)")
    if show:
        for one in lists:
            typer.echo("\n".join(_lines(one)))
    elif output is Format.JSON:
        print_json({"lists": lists})
    else:
        _write(_der(lists[0]["pem"]) if der else "".join(one["pem"] for one in lists).encode(), target)
    return 0


def _der(pem: str) -> bytes:
    return base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-----")))


def _write(content: bytes, target: Path | None) -> None:
    if target is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        target.write_bytes(content)
    except OSError as failed:
        raise Refused(f"{target}: {failed.strerror}") from failed


def _lines(one: dict[str, Any]) -> list[str]:
    of, until = (datetime.fromisoformat(one[name]) for name in ("this_update", "next_update"))
    lines = [f"{one['issuer']}: list {one['number']} of {of:%Y-%m-%d %H:%M}Z, good until {until:%Y-%m-%d %H:%M}Z"]
    lines += [
        f"  {entry['serial']} since {datetime.fromisoformat(entry['at']):%Y-%m-%d %H:%M}Z ({entry['reason']})"
        for entry in one["revoked"]
    ]
    return lines if one["revoked"] else [*lines, "  nothing is revoked"]
