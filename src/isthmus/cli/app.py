"""The commands, in the order in which help lists them. A command's module is imported when the command is named."""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus import __version__
from isthmus.cli.lazy import Named, group_of

COMMANDS: tuple[Named, ...] = (
    Named("demo"),
    Named("up"),
    Named("analyze"),
    Named("compile", "compile_", "compile_"),
    Named("run", settings={"context_settings": {"ignore_unknown_options": True, "allow_interspersed_args": False}}),
    Named("proxies"),
    Named("config"),
    Named("drift"),
    Named("reasons"),
    Named("ca", "app"),
    Named("consumer", "app"),
    Named("doctor", "app"),
    Named("rego", "app"),
    Named("token"),
    Named("svid", "app"),
    Named("serve"),
    Named("proxy", "app"),
    Named("node", "app"),
    Named("agent", settings={"hidden": True}),
)


def _end(code: int | None, **_: object) -> None:
    """What a command answers is the exit code."""
    raise typer.Exit(code or 0)


app = typer.Typer(
    name="isthmus",
    cls=group_of(COMMANDS),
    help="One zero-trust gateway and mesh from one set of Istio manifests, on real Envoy, without Kubernetes.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    result_callback=_end,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"isthmus {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    pass
