"""Limits that can never refuse anybody."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.diag import Code, Report, Severity
from isthmus.model.limit import Limit, Rate, RateLimitPolicy
from isthmus.model.mesh import Mesh

NEVER_BITES = Code(
    "ISM5112",
    Severity.WARNING,
    "A limit that refuses nobody",
    '"{name}" can never refuse anybody: {why}',
    what="A limit is for plans that no Consumer has, or another limit of the policy is always reached before it.",
    why="It looks like a protection, and is none.",
    example="- {name: narrow, requests: 10, per: 1s}\n- {name: wide, requests: 20, per: 1s}",
    fix="Correct the plan's name or the numbers, or take the limit out.",
)


def run(mesh: Mesh, report: Report) -> None:
    plans = {consumer.plan for consumer in mesh.consumers.values()}
    for policy in mesh.policies.limits:
        assert isinstance(policy, RateLimitPolicy)
        for limit in policy.limits:
            if limit.plans and not plans.intersection(limit.plans):
                why = f"no Consumer has the plan {listed(limit.plans)}"
                report.add(NEVER_BITES, at(limit.origin), name=limit.name, why=why)
            for other in policy.limits:
                if other is not limit and _is_always_first(other, limit):
                    report.add(NEVER_BITES, at(limit.origin), name=limit.name, why=f'"{other.name}" is reached before')
                    break


def _is_always_first(narrow: Limit, wide: Limit) -> bool:
    """Whether what ``wide`` would refuse ``narrow`` has refused already: each of its buckets counts as much or more."""
    if narrow.shadow or not isinstance(narrow.amount, Rate) or not isinstance(wide.amount, Rate):
        return False
    if narrow.methods and not (wide.methods and set(wide.methods) <= set(narrow.methods)):
        return False
    if not set(narrow.by) <= set(wide.by) or narrow.plans != wide.plans:
        return False
    if narrow.scope is not wide.scope or narrow.fail_open is not wide.fail_open:
        return False
    slower = narrow.amount.requests * wide.amount.per <= wide.amount.requests * narrow.amount.per
    return slower and narrow.amount.burst <= wide.amount.burst and not _alike(narrow, wide)


def _alike(one: Limit, other: Limit) -> bool:
    return (set(one.by), set(one.methods), one.amount) == (set(other.by), set(other.methods), other.amount)


CHECK = Check("limit-effect", (NEVER_BITES,), run)
