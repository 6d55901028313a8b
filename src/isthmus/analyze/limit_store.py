"""GLOBAL limits that each machine counts by itself."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.diag import Code, Report, Severity
from isthmus.model.limit import Concurrency, LimitScope, RateLimitPolicy
from isthmus.model.mesh import Mesh
from isthmus.model.offer import NOBODY

EACH_BY_ITSELF = Code(
    "ISM5113",
    Severity.WARNING,
    "A GLOBAL limit that each machine counts by itself",
    '"{name}" is counted on each of {count} machines ({nodes}): together they let through {count} times as much',
    what="A GLOBAL limit has no store, and the mesh's proxies run on several machines.",
    why="Without a Redis that they share, the limit service of each machine knows its own proxies only.",
    example="limits: [{name: all, scope: GLOBAL, requests: 100, per: 1m}]   # no store",
    fix="Name a Redis: store: {redis: {secretName: limits-redis}}.",
)


def _check(mesh: Mesh, report: Report) -> None:
    nodes = tuple(dict.fromkeys(proxy.node for proxy in mesh.proxies if proxy.node != NOBODY))
    if len(nodes) < 2:
        return
    for policy in mesh.policies.limits:
        assert isinstance(policy, RateLimitPolicy)
        for limit in policy.of(LimitScope.GLOBAL):
            if policy.store is None and not isinstance(limit.amount, Concurrency):
                named = listed(nodes)
                report.add(EACH_BY_ITSELF, at(limit.origin), name=limit.name, count=len(nodes), nodes=named)


CHECK = Check("limit_store", (EACH_BY_ITSELF,), _check)
