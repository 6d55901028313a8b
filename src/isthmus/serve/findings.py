"""What the user is told while manifests change: what is new, what is mended, what came and went."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from isthmus.analyze import CHECKS
from isthmus.control.control_plane import ControlPlane
from isthmus.control.guests import is_guest
from isthmus.diag import Diagnostic, Ref, Report, Severity

logger = logging.getLogger(__name__)

Show = Callable[[tuple[Diagnostic, ...]], None]
"""Shows the user findings that were not there before."""

_MOST_NAMED = 8


class Findings:
    """Says each finding once, as long as it lasts."""

    def __init__(self, plane: ControlPlane, show: Show) -> None:
        self._plane = plane
        self._show = show
        self._shown: frozenset[Diagnostic] = frozenset()
        self._in_force: frozenset[Ref] | None = None

    def show(self) -> None:
        """Say what is new since the last time; what is mended is forgotten, and said again if it comes back."""
        report = Report()
        report.extend(found for found in self._plane.diagnostics if found.severity >= Severity.WARNING)
        for check in CHECKS:
            check.look(self._plane.mesh, report, datetime.now(UTC))
        found = report.at_least(Severity.WARNING)
        fresh = tuple(one for one in found if one not in self._shown)
        mended = self._shown and not found
        self._shown = frozenset(found)
        if fresh:
            self._show(fresh)
        if mended:
            logger.warning("everything that was reported is mended")
        self._say_what_came_and_went()

    def _say_what_came_and_went(self) -> None:
        """A removed policy means more access: no removal is silent. Guests come and go all the time."""
        compiled = self._plane.compiled.value
        refs = frozenset(ref for ref in (compiled.good if compiled is not None else ()) if not is_guest(ref))
        before, self._in_force = self._in_force, refs
        if before is None:
            return
        for what, some in (("removed", before - refs), ("added", refs - before)):
            if some:
                named = sorted(map(str, some))
                more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
                logger.warning("%s: %s%s", what, ", ".join(named[:_MOST_NAMED]), more)
