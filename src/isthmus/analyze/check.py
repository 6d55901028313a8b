"""What a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from isthmus.diag import Code, Origin, Place, Report
from isthmus.model.mesh import Mesh

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at a whole Mesh; reports with ``codes`` and nothing else. ``run_at``: what depends on the time, too."""

    name: str
    codes: tuple[Code, ...]
    run: Callable[[Mesh, Report], None] | None = None
    run_at: Callable[[Mesh, Report, datetime], None] | None = None

    def look(self, mesh: Mesh, report: Report, now: datetime) -> None:
        if self.run is not None:
            self.run(mesh, report)
        if self.run_at is not None:
            self.run_at(mesh, report, now)


def at(origin: Origin) -> Place:
    """The place of a value of the model."""
    return Place(origin.source, origin.ref)


def listed(names: Iterable[str]) -> str:
    """A few names, and how many there are besides: ``shop/a, shop/b, shop/c and 4 more``."""
    each = tuple(dict.fromkeys(names))
    rest = len(each) - _NAMED
    return ", ".join(each[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
