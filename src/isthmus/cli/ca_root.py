"""``isthmus ca root``: what curl and browsers are to trust. It is asked for by other commands, so it imports little."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.identity.rotation import BUNDLE, ROOT
from isthmus.state import StateDir


def root(
    state: State = DEFAULT_STATE,
    target: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file.")] = None,
    output: Output = Format.TEXT,
) -> int:
    """Print the mesh's trust bundle (PEM): the root that signs, and while roots are rotated the next or the old ones.

    Examples:

        isthmus ca root > mesh-root-ca.pem

        curl --cacert <(isthmus ca root) https://shop.example.com:8443/
    """
    kept = StateDir.at(state)
    pem = kept.read(BUNDLE) or kept.read(ROOT)
    if pem is None:
        typer.echo(f"isthmus: no certificate authority in {state} yet (isthmus up makes one)", err=True)
        return EXIT_USER
    if output is Format.JSON:
        print_json({"root": pem.decode()})
    elif target is None:
        typer.echo(pem.decode(), nl=False)
    else:
        try:
            target.write_bytes(pem)
        except OSError as failed:
            typer.echo(f"isthmus: {target}: {failed.strerror}", err=True)
            return EXIT_USER
    return 0
