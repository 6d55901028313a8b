"""DENY rules that close plain TCP ports, because they ask only about what HTTP has.

Istio: the documentation of AuthorizationPolicy for TCP; its validation has the same warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import Target, targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action, Rule
from isthmus.model.predicate import TRUE, Destination, bind, needs_http, widen_for_tcp

DENY_CLOSES_TCP = Code(
    "ISM5004",
    Severity.WARNING,
    "A DENY rule closes TCP ports",
    "this rule asks only about HTTP, which plain TCP does not have: it denies everything at {names}",
    what="A DENY rule with nothing but HTTP fields selects a workload with ports of plain TCP.",
    why="What cannot be asked on TCP is left out of a DENY rule, and what is left denies every connection.",
    example="action: DENY\nrules:\n  - to: [{operation: {methods: [DELETE]}}]   # and the workload has port 5432, tcp",
    fix='Name the HTTP ports in the rule: operation: {methods: [DELETE], ports: ["8080"]}.',
)


def run(mesh: Mesh, report: Report) -> None:
    known = targets(mesh)
    for policy in mesh.policies.authorization:
        if policy.action is not Action.DENY or policy.dry_run:
            continue
        selected = [target for target in known if target.within(policy.scope)]
        for rule in policy.rules:
            closed = [name for target in selected for name in _closed(rule, target)]
            if closed:
                report.add(DENY_CLOSES_TCP, at(rule.origin), names=listed(closed))


def _closed(rule: Rule, target: Target) -> Iterator[str]:
    for number, protocol in target.ports.items():
        if protocol.is_http:
            continue
        predicate = bind(rule.predicate, Destination(number))
        if needs_http(predicate) and widen_for_tcp(predicate) == TRUE:
            yield f"{target.key} port {number}"


CHECK = Check("deny-tcp", (DENY_CLOSES_TCP,), run)
