"""Routes by claims where no token is ever verified."""

from __future__ import annotations

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH, RouteMatch, RouteTable
from isthmus.model.selector import labels_match

NO_CLAIMS = Code(
    "ISM5050",
    Severity.WARNING,
    "A route by claims where no token is verified",
    "no RequestAuthentication selects {where}: there, no request has the claim {claim}",
    what="A VirtualService matches a claim of the token, and no proxy that obeys it has rules for tokens.",
    why="Claims are of verified tokens alone: the match never holds, and in withoutHeaders always does.",
    example='match:\n  - headers: {"@request.auth.claims.group": {exact: beta}}   # and no RequestAuthentication',
    fix="Add a RequestAuthentication that selects the gateway; for calls in the mesh, the workload that calls.",
)


def run(mesh: Mesh, report: Report) -> None:
    without = {where for where in _places(mesh) if not _verifies(where, mesh)}
    for table in mesh.routes:
        if not table.asks_claims:
            continue
        for route in table.routes:
            for match in route.matches:
                missing = [where for where in _obeying(table, match) if where in without]
                if match.asks_claims and missing:
                    claim = (*match.claims, *match.without_claims)[0]
                    named = ", ".join("any workload" if where == MESH else f"gateway {where}" for where in missing)
                    report.add(NO_CLAIMS, at(route.origin), where=named, claim=".".join(claim.path))


def _obeying(table: RouteTable, match: RouteMatch) -> tuple[str, ...]:
    return table.gateways if match.gateways is None else tuple(key for key in match.gateways if key in table.gateways)


def _places(mesh: Mesh) -> tuple[str, ...]:
    return (MESH, *(gateway.key for gateway in mesh.gateways))


def _verifies(where: str, mesh: Mesh) -> bool:
    """Whether any of its proxies has rules for tokens."""
    rules = [policy for policy in mesh.policies.request if policy.rules]
    if where == MESH:
        return any(policy.scope.selects(each.namespace, each.labels) for policy in rules for each in mesh.workloads)
    gateway = next(each for each in mesh.gateways if each.key == where)
    return any(
        policy.scope.selects(namespace, proxy.labels)
        for policy in rules
        for proxy in mesh.proxies
        if labels_match(dict(gateway.selector), proxy.labels)
        for namespace in (proxy.namespace, gateway.namespace)
    )


CHECK = Check("claim-route", (NO_CLAIMS,), run)
