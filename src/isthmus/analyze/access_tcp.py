"""AccessPolicies that close ports of plain TCP: all that they allow are requests."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh

ACCESS_CLOSES_TCP = Code(
    "ISM5081",
    Severity.WARNING,
    "An AccessPolicy closes TCP ports",
    "all that this policy allows are requests: it closes the plain TCP at {names}",
    what="An AccessPolicy selects a workload with ports of plain TCP.",
    why="Its rules speak of methods, paths and tokens. A connection has none of these, so no rule lets it in.",
    example="spec: {selector: {matchLabels: {app: database}}, rules: [...]}   # port 5432 is plain TCP",
    fix="Narrow the selector, or name the port's protocol if it is HTTP; for TCP write an AuthorizationPolicy.",
)


def run(mesh: Mesh, report: Report) -> None:
    known = targets(mesh)
    for policy in mesh.policies.access:
        scope = policy.attachment.scope
        selected = [target for target in known if scope is not None and target.within(scope)]
        closed = [
            f"{target.key} port {number}"
            for target in selected
            for number, protocol in target.ports.items()
            if not protocol.is_http
        ]
        if closed:
            report.add(ACCESS_CLOSES_TCP, at(policy.origin), names=listed(closed))


CHECK = Check("access-tcp", (ACCESS_CLOSES_TCP,), run)
