"""``isthmus consumer store``: where the credentials are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.consumer_known import now, opened
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.consumer.place import read_url, remember
from isthmus.consumer.store import CredentialStore
from isthmus.errors import Refused
from isthmus.state import StateDir

_LONGEST = 4096


def store(
    url_file: Annotated[
        str | None,
        typer.Option(
            "--url-file",
            metavar="FILE",
            help="Keep them in the PostgreSQL whose URL the file (- for standard input) holds.",
        ),
    ] = None,
    own: Annotated[bool, typer.Option("--own-file", help="Keep them in a file of the state again.")] = False,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Say where consumers' credentials are, or put them elsewhere: a PostgreSQL, which each machine asks by itself.

    The URL may hold a password: it is read from a file, and kept in the state, readable to you alone. Keys are not
    moved. `isthmus up` and `isthmus serve` read it when they start.

    Examples:

        isthmus consumer store

        isthmus consumer store --url-file credentials.url
    """
    if url_file is not None and own:
        raise typer.BadParameter("either --url-file or --own-file")
    if url_file is not None:
        url = read_url(_read(url_file))
        # Whoever cannot be reached now is a typing error more often than not.
        CredentialStore.at_url(url).close()
        remember(StateDir.at(state).open(), url)
    elif own:
        remember(StateDir.at(state).open(), None)
    with opened(state) as (_, found):
        count = sum(found.counts(now()).values())
    if output is Format.JSON:
        print_json({"store": found.shown, "live_keys": count})
    else:
        typer.echo(f"{found.shown}: {count} live key{'' if count == 1 else 's'}")
    if url_file is not None or own:
        typer.echo("a running `isthmus up` or `isthmus serve` uses it from its next start on", err=True)
    return 0


def _read(file: str) -> str:
    """Raises Refused."""
    if file == "-":
        return sys.stdin.read(_LONGEST)
    try:
        with Path(file).open(encoding="utf-8") as opened_file:
            return opened_file.read(_LONGEST)
    except OSError as failed:
        raise Refused(f"{file}: {failed.strerror}") from failed
    except UnicodeDecodeError:
        raise Refused(f"{file}: not a text") from None
