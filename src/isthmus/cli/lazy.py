"""Groups of commands that know their commands by name: a command's module is imported when the command is named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_GRPC_VERBOSITY = "GRPC_VERBOSITY"


@dataclass(frozen=True, slots=True)
class Named:
    """A command, or a group of commands: what is called ``name`` in the module of that name."""

    name: str
    attribute: str | None = None
    module: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """The command as the group runs it."""
        with _grpc_says_errors_alone():
            module = import_module(f"isthmus.cli.{self.module or self.name}")
        found = getattr(module, self.attribute or self.name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            single.command(self.name, **self.settings)(found)
            found = single
        return typer.main.get_command(found)


@contextmanager
def _grpc_says_errors_alone() -> Iterator[None]:
    """While gRPC is imported, which looks once: a line of its own for each handshake that fails buries what we say.

    Not for longer: the environment is also that of the programs that are started, which may have a gRPC of their own.
    """
    if _GRPC_VERBOSITY in os.environ:
        yield
        return
    os.environ[_GRPC_VERBOSITY] = "ERROR"
    try:
        yield
    finally:
        del os.environ[_GRPC_VERBOSITY]


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
