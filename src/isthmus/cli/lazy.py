"""Groups of commands that know their commands by name: a command's module is imported when the command is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


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


class _Commands(Mapping[str, Any]):
    """Commands by name, each loaded when it is asked for."""

    def __init__(self, commands: tuple[Named, ...]) -> None:
        self._commands = commands

    def __getitem__(self, name: str) -> Any:
        for command in self._commands:
            if command.name == name:
                return command.load()
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (command.name for command in self._commands)

    def __len__(self) -> int:
        return len(self._commands)


def group_of(commands: tuple[Named, ...]) -> type[TyperGroup]:
    """The ``cls`` of a Typer of ``commands``, which help lists in their order: ``isthmus token`` needs no Envoy."""

    class Group(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = _Commands(commands)  # type: ignore[assignment]  # nobody adds to it

        def list_commands(self, ctx: Any) -> list[str]:
            return list(self.commands)

    return Group
