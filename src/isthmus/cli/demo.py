"""``isthmus demo``: a shop behind a gateway, to try things on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.launch import Launch, launch
from isthmus.cli.option import State
from isthmus.cli.publish import Publish, read_published
from isthmus.cli.up import announce
from isthmus.demo.requests import TRIES, Outcome, as_curl, token_function
from isthmus.demo.run import Prepared, check, places, prepare, settle
from isthmus.serve.options import ServeOptions

_DEFAULT_STATE = Path(".isthmus-demo")
_CHECK_SECONDS = 120.0
_LOG_COLUMNS = 160


def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Send the requests, compare, and end: with 0 if all are as expected.")
    ] = False,
    publish: Publish = None,
    state: State = _DEFAULT_STATE,
) -> int:
    """Run a shop of three services, an identity provider and a gateway; print requests to try.

    Examples:

        isthmus demo

        isthmus demo -p 8443:8443 -p 8080:8080

        isthmus demo --check
    """
    prepared = prepare(state)
    wanted = Launch(ServeOptions((str(prepared.manifests),), state, published=read_published(publish)))
    return asyncio.run(_check(wanted, prepared) if check else _show(wanted, prepared))


async def _show(wanted: Launch, prepared: Prepared) -> int:
    async def on_ready(ready: dict[str, Any]) -> int | None:
        await announce(ready)
        where = places(ready, prepared)
        await settle(where)
        typer.echo(f"\nThe manifests are in {prepared.manifests}: change them, and see what changes.\n")
        typer.echo(f"# In another shell. Tokens, for alice, bob or admin, from {where.idp_url}:")
        typer.echo(token_function(where))
        for one in TRIES:
            typer.echo(f"\n# {one.title}: {one.expected}. {one.why}")
            typer.echo(as_curl(one, where))
        typer.echo()
        return None

    return await launch(wanted, on_ready)


async def _check(wanted: Launch, prepared: Prepared) -> int:
    async def on_ready(ready: dict[str, Any]) -> int:
        outcomes = await check(places(ready, prepared))
        _print_table(outcomes)
        return 0 if all(outcome.passed for outcome in outcomes) else EXIT_USER

    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await launch(wanted, on_ready)
    except TimeoutError:
        typer.echo(f"isthmus: the demo was not done in {_CHECK_SECONDS:g} s", err=True)
        return EXIT_USER


def _print_table(outcomes: Sequence[Outcome]) -> None:
    table = Table("", "Request", "Expected", "Answer", "Decided by", title="The demo's requests")
    for outcome in outcomes:
        sent = outcome.sent
        mark = "[green]ok[/]" if outcome.passed else "[bold red]WRONG[/]"
        answer = "none" if outcome.status is None else str(outcome.status)
        table.add_row(mark, escape(sent.title), str(sent.expected), answer, escape(sent.why))
    # A log has room for whole lines.
    Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS).print(table)
    for outcome in outcomes:
        if outcome.problem is not None:
            typer.echo(f"WRONG {outcome.sent.title}: {outcome.problem}")
