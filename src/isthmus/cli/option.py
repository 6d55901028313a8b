"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_STATE = Path(".isthmus")

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Manifests: files, folders, or - for standard input."),
]
State = Annotated[
    Path,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Where CA, last good manifests and sockets are kept.",
        envvar="ISTHMUS_STATE",
        # Not every command needs it: `isthmus svid --socket` is for other users, too. Who needs it says what it lacks.
        readable=False,
    ),
]


Strict = Annotated[bool, typer.Option("--strict", help="Any error ends the start, unresolved references too.")]
SpireSocket = Annotated[
    str | None,
    typer.Option(
        "--spire-socket",
        metavar="unix:///PATH",
        help="A SPIRE agent's Workload API, which gives this machine's proxies their SVIDs.",
    ),
]


class Format(StrEnum):
    """How a command reports."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[Format, typer.Option("-o", "--output", help="For people, or for programs.")]


def read_labels(written: list[str] | None) -> dict[str, str]:
    """Of ``--label K=V``, as often as it is given. Raises BadParameter."""
    labels = {}
    for one in written or ():
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f'"{one}" is not K=V', param_hint="--label")
        labels[key] = value
    return labels
