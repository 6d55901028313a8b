"""What a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from isthmus.diag import Code, Origin, Place, Report
from isthmus.model.mesh import Mesh

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at a whole Mesh; reports with ``codes`` and nothing else."""

    name: str
    codes: tuple[Code, ...]
    run: Callable[[Mesh, Report], None]


def at(origin: Origin) -> Place:
    """The place of a value of the model."""
    return Place(origin.source, origin.ref)


def listed(names: Iterable[str]) -> str:
    """A few names, and how many there are besides: ``shop/a, shop/b, shop/c and 4 more``."""
    each = tuple(dict.fromkeys(names))
    rest = len(each) - _NAMED
    return ", ".join(each[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
