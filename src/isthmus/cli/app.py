"""The commands, in the order in which help lists them. A command's module is imported when the command is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from isthmus import __version__


@dataclass(frozen=True, slots=True)
class Named:
    """A command, or a group of commands: what is called ``name`` in the module of that name."""

    name: str
    attribute: str | None = None
    module: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """The command as the group runs it."""
        found = getattr(import_module(f"isthmus.cli.{self.module or self.name}"), self.attribute or self.name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            single.command(self.name, **self.settings)(found)
            found = single
        return typer.main.get_command(found)


COMMANDS: tuple[Named, ...] = (
    Named("demo"),
    Named("up"),
    Named("analyze"),
    Named("compile", "compile_", "compile_"),
    Named("run", settings={"context_settings": {"ignore_unknown_options": True, "allow_interspersed_args": False}}),
    Named("proxies"),
    Named("config"),
    Named("ca", "app"),
    Named("token"),
    Named("serve"),
    Named("agent", settings={"hidden": True}),
)


class _Commands(Mapping[str, Any]):
    """:data:`COMMANDS` by name, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        for command in COMMANDS:
            if command.name == name:
                return command.load()
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (command.name for command in COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """Knows its commands by name without having imported them: ``isthmus token`` needs no Envoy."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]  # nobody adds to it

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def _end(code: int | None, **_: object) -> None:
    """What a command answers is the exit code."""
    raise typer.Exit(code or 0)


app = typer.Typer(
    name="isthmus",
    cls=_Group,
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
