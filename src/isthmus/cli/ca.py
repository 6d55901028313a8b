"""``isthmus ca``: trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.state import StateDir

app = typer.Typer(
    name="ca",
    help="Trust: the certificate authority of this state directory.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def root(
    state: State = DEFAULT_STATE,
    target: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file.")] = None,
    output: Output = Format.TEXT,
) -> int:
    """Print the mesh's root certificate (PEM), to be put into trust bundles.

    Examples:

        isthmus ca root > mesh-root-ca.pem

        curl --cacert <(isthmus ca root) https://shop.example.com:8443/
    """
    pem = StateDir.at(state).read("ca/root.pem")
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
