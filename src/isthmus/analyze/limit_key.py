"""Limits whose buckets are told apart by what nobody verifies, or by what clients choose."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.analyze.check import Check, at
from isthmus.analyze.target import Target, targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.attachment import TargetKind
from isthmus.model.limit import KeyKind, Limit, RateLimitPolicy
from isthmus.model.mesh import Mesh
from isthmus.model.selector import labels_match

NOBODY_VERIFIED = Code(
    "ISM5110",
    Severity.WARNING,
    "A limit by what nobody verifies",
    '"{name}" counts by {what}, and {lacking}: all clients share one bucket',
    what="A limit counts by a claim where no token is verified, or by consumers where nobody finds out who asks.",
    why="Who lacks a thing shares a bucket with all who lack it, so the first to come take everybody's share.",
    example="limits: [{name: per-user, by: [{claim: sub}], requests: 100, per: 1m}]   # no RequestAuthentication",
    fix="Add the RequestAuthentication (or ClientAuthentication) for the same place, or count by address.",
)
CLIENTS_CHOOSE = Code(
    "ISM5111",
    Severity.WARNING,
    "A limit that clients can step around",
    '"{name}" counts by the header "{header}", in which clients write what they like: no other limit holds them',
    what="The only limit of a policy that holds back a client counts by a header.",
    why="A client that writes something new each time has a new, full bucket each time.",
    example="limits: [{name: per-tenant, by: [{header: x-tenant}], requests: 100, per: 1m}]",
    fix="Put a limit by address (or claim, or consumer) beside it, or count by what is verified.",
)

CALLERS_SAY = Code(
    "ISM5114",
    Severity.WARNING,
    "A limit by address before a program",
    '"{name}" counts by address before {where}: there the caller says in X-Forwarded-For whose it is',
    what="A limit by address holds at a workload's own sidecar.",
    why="A sidecar believes what its caller says of the client's address, for gateways must be believed; a caller on "
    "the same machine that says nothing has no address, and is not counted.",
    example="selector: {matchLabels: {app: orders}}\nlimits: [{name: a, by: [{address: true}], requests: 10, per: 1s}]",
    fix="Attach it to the Gateway or the VirtualService; before a program count all together, or by claim or consumer.",
)

_CONSUMER = {KeyKind.CONSUMER: "consumer", KeyKind.TENANT: "tenant", KeyKind.PLAN: "plan"}


def _check(mesh: Mesh, report: Report) -> None:
    for policy in mesh.policies.limits:
        assert isinstance(policy, RateLimitPolicy)
        for limit in policy.limits:
            _look_at_keys(policy, limit, mesh, report)
            _look_at_address(policy, limit, mesh, report)
            header = next((key.name for key in limit.by if key.kind is KeyKind.HEADER), None)
            if header is not None and not any(_holds(other) for other in policy.limits):
                report.add(CLIENTS_CHOOSE, at(limit.origin), name=limit.name, header=header)


def _look_at_keys(policy: RateLimitPolicy, limit: Limit, mesh: Mesh, report: Report) -> None:
    if mesh.policies.clients:
        return
    kinds = {key.kind: key for key in limit.by}
    consumer = next((name for kind, name in _CONSUMER.items() if kind in kinds), "plan" if limit.plans else None)
    if consumer is not None:
        lacking = "no ClientAuthentication finds out whose requests they are"
        report.add(NOBODY_VERIFIED, at(limit.origin), name=limit.name, what=f"the {consumer}", lacking=lacking)
    if KeyKind.CLAIM in kinds:
        open_ = next((one for one in _places(policy, mesh) if not _verifies(one, mesh)), None)
        if open_ is not None:
            what = f"the claim {kinds[KeyKind.CLAIM].name}"
            lacking = f"no RequestAuthentication verifies a token at {open_.key}"
            report.add(NOBODY_VERIFIED, at(limit.origin), name=limit.name, what=what, lacking=lacking)


def _look_at_address(policy: RateLimitPolicy, limit: Limit, mesh: Mesh, report: Report) -> None:
    if any(key.kind is KeyKind.ADDRESS for key in limit.by):
        before = next((one for one in _places(policy, mesh) if not one.gateway), None)
        if before is not None:
            report.add(CALLERS_SAY, at(limit.origin), name=limit.name, where=before.key)


def _holds(limit: Limit) -> bool:
    """Whether it holds back a client whatever that writes."""
    return not limit.shadow and all(key.kind is not KeyKind.HEADER for key in limit.by)


def _verifies(target: Target, mesh: Mesh) -> bool:
    return any(target.within(policy.scope) for policy in mesh.policies.request)


def _places(policy: RateLimitPolicy, mesh: Mesh) -> Iterator[Target]:
    """The workloads and gateways where the policy holds."""
    scope = policy.attachment.scope
    if scope is not None:
        yield from (one for one in targets(mesh) if one.within(scope))
        return
    named: set[str] = {one.key for one in policy.attachment.targets if one.kind is TargetKind.GATEWAY}
    tables = {one.key for one in policy.attachment.targets if one.kind is TargetKind.VIRTUAL_SERVICE}
    for table in mesh.routes:
        if f"{table.namespace}/{table.name}" in tables:
            named.update(table.gateways)
    selectors = [dict(gateway.selector) for gateway in mesh.gateways if gateway.key in named]
    for one in targets(mesh):
        if one.gateway and any(labels_match(selector, one.labels) for selector in selectors):
            yield one


CHECK = Check("limit_key", (NOBODY_VERIFIED, CLIENTS_CHOOSE, CALLERS_SAY), _check)
