"""A resource: one document of a known kind, its spec read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from isthmus.config.node import Node
from isthmus.diag import Origin, Ref, Source

S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One parsed document, before its kind is looked up. ``digest`` is of its text: equal text, equal document."""

    api_version: str
    ref: Ref
    source: Source
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    root: Node = field(repr=False)
    """Not shown: a Secret's values are in it."""
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Resource(Generic[S]):
    """A resource whose spec is of type ``S``."""

    ref: Ref
    source: Source
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: S
    root: Node = field(repr=False)
    """Not shown: a Secret's values are in it."""
    made: dict[object, Any] = field(default_factory=dict, init=False, repr=False)
    """What was made of it before, for ``kinds/shape/remember.py`` alone."""

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def namespace(self) -> str:
        return self.ref.namespace

    @property
    def origin(self) -> Origin:
        return Origin(self.ref, self.source)
