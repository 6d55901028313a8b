"""``isthmus consumer``: clients and their credentials."""

from __future__ import annotations

import typer

from isthmus.cli.lazy import Named, group_of

COMMANDS: tuple[Named, ...] = (
    Named("list", "list_", "consumer_list"),
    Named("show", "show", "consumer_list"),
    Named("key", "app", "consumer_key"),
    Named("store", "store", "consumer_store"),
)

app = typer.Typer(
    name="consumer",
    cls=group_of(COMMANDS),
    help="Clients that are known by name, and their API keys.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    pass
