"""GLOBAL limits that each machine counts by itself."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.place import Places
from isthmus.diag import Code, Report, Severity
from isthmus.model.limit import Concurrency, LimitScope, RateLimitPolicy
from isthmus.model.mesh import Mesh
from isthmus.model.offer import NOBODY

EACH_BY_ITSELF = Code(
    "ISM5113",
    Severity.WARNING,
    "A GLOBAL limit that each machine counts by itself",
    '"{name}" is counted on each of {count} machines ({nodes}): together they let through {count} times as much',
    what="A GLOBAL limit has no store, and proxies that it holds at run on several machines.",
    why="Without a Redis that they share, the limit service of each machine knows its own proxies only.",
    example="limits: [{name: all, scope: GLOBAL, requests: 100, per: 1m}]   # no store",
    fix="Name a Redis: store: {redis: {secretName: limits-redis}}.",
)


def run(mesh: Mesh, report: Report) -> None:
    nodes = {(proxy.namespace, proxy.name): proxy.node for proxy in mesh.proxies if proxy.node != NOBODY}
    if len(set(nodes.values())) < 2:
        return
    places = Places(mesh)
    for policy in mesh.policies.limits:
        assert isinstance(policy, RateLimitPolicy)
        targets = places.concerned(policy.attachment) if policy.store is None else ()
        counting = tuple(dict.fromkeys(nodes[key] for one in targets if (key := (one.namespace, one.name)) in nodes))
        for limit in policy.of(LimitScope.GLOBAL) if len(counting) > 1 else ():
            if not isinstance(limit.amount, Concurrency):
                named = listed(counting)
                report.add(EACH_BY_ITSELF, at(limit.origin), name=limit.name, count=len(counting), nodes=named)


CHECK = Check("limit-store", (EACH_BY_ITSELF,), run)
