"""``isthmus reasons``: what a code of a refusal means, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated

import typer

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import Format, Output
from isthmus.cli.report import print_json
from isthmus.model import handshake
from isthmus.model.reason import REASONS
from isthmus.model.refusal import URN, Reason

_TLS = "How the TLS handshake went"


def reasons(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="One of them; else all.")] = None,
    output: Output = Format.TEXT,
) -> int:
    """Why requests and connections are refused: every code of access logs, metrics and problem documents.

    CODE may be written as a problem document has it (urn:isthmus:reason:...). Exit code 1 if there is no such code.

    Examples:

        isthmus reasons

        isthmus reasons jwt-expired

        isthmus reasons peer-not-allowed -o json
    """
    known = {one.code: _shown(one) for one in REASONS}
    known |= {one.code: _handshake(one) for one in handshake.REASONS}
    if code is None:
        if output is Format.JSON:
            print_json(list(known.values()))
        else:
            _print_all(known)
        return 0
    found = known.get(code.removeprefix(URN))
    if found is None:
        near = get_close_matches(code, known, 1)
        hint = f'did you mean "{near[0]}"?' if near else "`isthmus reasons` lists all"
        typer.echo(f'there is no reason "{code}" ({hint})', err=True)
        return EXIT_USER
    if output is Format.JSON:
        print_json(found)
    else:
        typer.echo(f"{found['code']}: {found['about']} ({found['status'] or 'the connection is closed'})")
        typer.echo(str(found["fix"]))
    return 0


_Shown = Mapping[str, str | int | None]


def _shown(reason: Reason) -> _Shown:
    said = {"code": reason.code, "group": reason.group.value, "status": reason.status}
    return {**said, "about": reason.about, "fix": reason.fix}


def _handshake(reason: handshake.Reason) -> _Shown:
    return {"code": reason.code, "group": _TLS, "status": None, "about": reason.about, "fix": reason.mend}


def _print_all(known: Mapping[str, _Shown]) -> None:
    group: object = None
    for one in known.values():
        if one["group"] != group:
            typer.echo(("" if group is None else "\n") + f"{one['group']}:")
            group = one["group"]
        typer.echo(f"  {one['code']:<28} {one['status'] or '-':<5} {one['about']}")
