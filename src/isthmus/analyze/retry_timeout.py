"""Routes whose timeout ends before one try may."""

from __future__ import annotations

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.route import Forward

TRY_OUTLASTS_ROUTE = Code(
    "ISM5009",
    Severity.WARNING,
    "One try may last longer than the whole route",
    "the route ends after {timeout:g} s, before one try of {per_try:g} s does: a slow try is never repeated",
    what="A route's timeout is shorter than the perTryTimeout of its retries.",
    why="The timeout spans all tries together, so that the first slow one uses it up.",
    example="timeout: 1s\nretries: {attempts: 3, perTryTimeout: 2s}",
    fix="Make the timeout at least as long as all the tries that you want to wait for.",
)


def run(mesh: Mesh, report: Report) -> None:
    for table in mesh.routes:
        for route in table.routes:
            action = route.action
            if not isinstance(action, Forward) or action.timeout is None or action.retry.per_try_timeout is None:
                continue
            timeout, per_try = action.timeout.total_seconds(), action.retry.per_try_timeout.total_seconds()
            if timeout < per_try:
                report.add(TRY_OUTLASTS_ROUTE, at(route.origin), timeout=timeout, per_try=per_try)


CHECK = Check("retry-timeout", (TRY_OUTLASTS_ROUTE,), run)
