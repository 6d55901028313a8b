"""Claims that an AccessPolicy compares, and that a token may be without."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.diag import Code, Report, Severity
from isthmus.model.access import AccessRule
from isthmus.model.mesh import Mesh

ABSENT_CLAIM = Code(
    "ISM5080",
    Severity.INFO,
    "A claim that a token may be without",
    "of a token without {names} what compares it is an error: not true, and with a ! before it not true either",
    what="A condition compares a claim and does not ask whether it is there.",
    why="Nothing is wrong if that is what you mean: who lacks the claim passes by another part of the condition (||), "
    "or not at all.",
    example='when: "!(claims.blocked == true)"   # refuses a token without "blocked"',
    fix="To let such tokens in, ask first whether it is there: !has(claims.blocked) || claims.blocked == false.",
)


def run(mesh: Mesh, report: Report) -> None:
    for policy in mesh.policies.access:
        for rule in policy.rules:
            names = _absent(rule)
            if names:
                report.add(ABSENT_CLAIM, at(rule.origin), names=listed(f'"{name}"' for name in names))


def _absent(rule: AccessRule) -> tuple[str, ...]:
    conditions = (way.condition for way in rule.ways if way.condition is not None)
    return tuple(sorted({name for condition in conditions for name in condition.absent}))


CHECK = Check("absent-claim", (ABSENT_CLAIM,), run)
