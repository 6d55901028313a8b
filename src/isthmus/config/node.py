"""A value of a manifest that remembers where it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from isthmus.diag import Place, Ref, Source

Scalar = str | int | float | bool | None
_NO_KEYS: Mapping[str, Source] = MappingProxyType({})
_PLAIN_KEY = re.compile(r"[^\s.\[\]\"]+")


def below(path: str, key: str) -> str:
    """The path of the entry ``key`` of the mapping at ``path``, quoted where it must be: ``labels["a.b/c"]``."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A mapping, a sequence or a scalar, with its place and its path (``spec.http[0].route[0].destination.host``)."""

    value: Mapping[str, Node] | tuple[Node, ...] | Scalar
    source: Source
    path: str = ""
    ref: Ref | None = None
    keys: Mapping[str, Source] = field(default_factory=lambda: _NO_KEYS)
    """Where each key of a mapping stands: an unknown field is reported at its key, not at its value."""
    begins: Source | None = None
    """Where the first character of a string stands that is in quotes or a block; None: at ``source``."""

    @property
    def is_mapping(self) -> bool:
        # To ask the abstract class takes ten times as long.
        return type(self.value) is dict or isinstance(self.value, Mapping)

    @property
    def is_sequence(self) -> bool:
        return isinstance(self.value, tuple)

    @property
    def mapping(self) -> Mapping[str, Node]:
        """The entries of a mapping; of anything else, none."""
        value = self.value
        return value if type(value) is dict or isinstance(value, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The elements of a sequence; of anything else, none."""
        return self.value if isinstance(self.value, tuple) else ()

    def get(self, *steps: str | int) -> Node | None:
        """The node below this one at ``steps`` (keys and indexes), or None."""
        node: Node | None = self
        for step in steps:
            if node is None:
                return None
            if isinstance(step, str):
                node = node.mapping.get(step)
            else:
                node = node.items[step] if step < len(node.items) else None
        return node

    def at(self, *steps: str | int) -> Node:
        """Like ``get``, but the deepest node that exists on the way: always a place to report at."""
        node = self
        for step in steps:
            below = node.get(step)
            if below is None:
                return node
            node = below
        return node

    def inside(self, line: int, column: int) -> Place:
        """The place of a character of a string, by its line and column (from 1) in the string itself."""
        first = self.begins or self.source
        shift = column - 1 if line == 1 or self.begins is not None else 0
        return Place(Source(first.file, first.line + line - 1, first.column + shift), self.ref, self.path)

    def key(self, name: str) -> Place:
        """The place of the key ``name`` itself."""
        return Place(self.keys.get(name, self.source), self.ref, below(self.path, name))

    def moved(self, path: str, ref: Ref | None) -> Node:
        """This node and all below it as part of the resource ``ref``, with paths that start from ``path``."""
        value = self.value
        if isinstance(value, Mapping):
            value = {key: node.moved(below(path, key), ref) for key, node in value.items()}
        elif isinstance(value, tuple):
            value = tuple([node.moved(f"{path}[{index}]", ref) for index, node in enumerate(value)])
        return Node(value, self.source, path, ref, self.keys, self.begins)

    def plain(self) -> object:
        """Ordinary dicts, lists and scalars, for what goes on as opaque data."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for node in (*self.mapping.values(), *self.items):
            yield from node.walk()
