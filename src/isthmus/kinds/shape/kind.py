"""A kind of resource: how its spec is read and what it adds to the Mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from isthmus.config.decode import Reader
from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.model.mesh import Mesh

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Kind(Generic[S]):
    """``apply`` gets all resources of the kind at once, in order of loading, so precedence is one readable function.

    It reports what it cannot resolve and never raises for what a user wrote.
    """

    name: str
    api_versions: tuple[str, ...]
    spec: Reader[S]
    apply: Callable[[Sequence[Resource[S]], Mesh, Report], Mesh]
    about: str
    """One sentence for the generated reference."""
    whole_document: bool = False
    """The fields stand beside ``metadata`` (Secret, ConfigMap), not under ``spec``."""
    security: bool = False
    """A new document of this kind that cannot be read denies what it selects."""


AnyKind = Kind[Any]
