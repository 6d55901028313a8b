"""Limits whose buckets are told apart by what nobody verifies, or by what clients choose."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.analyze.check import Check, at
from isthmus.analyze.place import Place, Places
from isthmus.analyze.unverified_token import verifies_tokens
from isthmus.diag import Code, Report, Severity
from isthmus.model.limit import KeyKind, Limit, RateLimitPolicy
from isthmus.model.mesh import Mesh

NOBODY_VERIFIED = Code(
    "ISM5110",
    Severity.WARNING,
    "A limit by what nobody verifies",
    '"{name}" counts by {what}, and {lacking}: all clients share one bucket',
    what="A limit counts by a claim where no token is verified, or by consumers where nobody finds out who asks.",
    why="Who lacks a thing shares a bucket with all who lack it, so the first to come take everybody's share.",
    example="limits: [{name: per-user, by: [{claim: sub}], requests: 100, per: 1m}]   # no RequestAuthentication",
    fix="At the same place add the RequestAuthentication for claims, or the ClientAuthentication with API keys or "
    "certificates for consumers; or count by address.",
)
CLIENTS_CHOOSE = Code(
    "ISM5111",
    Severity.WARNING,
    "A limit that clients can step around",
    '"{name}" counts by the header "{header}", in which clients write what they like: no other limit holds them',
    what="The only limit of a place that holds back a client counts by a header.",
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


def run(mesh: Mesh, report: Report) -> None:
    places = Places(mesh)
    for policy in mesh.policies.limits:
        assert isinstance(policy, RateLimitPolicy)
        held = tuple(places.of("limits", policy))
        for limit in policy.limits:
            _look_at_keys(limit, held, places, mesh, report)
            _look_at_address(limit, held, report)
            _look_at_headers(limit, held, places, report)


def _look_at_keys(limit: Limit, held: Sequence[Place], places: Places, mesh: Mesh, report: Report) -> None:
    kinds = {key.kind: key for key in limit.by}
    consumer = next((name for kind, name in _CONSUMER.items() if kind in kinds), "plan" if limit.plans else None)
    if consumer is not None:
        unknown = next((one for one in held if not _knows_consumers(one, places)), None)
        if unknown is not None:
            lacking = f"no ClientAuthentication with API keys or certificates finds out who asks at {unknown.name}"
            report.add(NOBODY_VERIFIED, at(limit.origin), name=limit.name, what=f"the {consumer}", lacking=lacking)
    if KeyKind.CLAIM in kinds:
        open_ = next((one for one in held if not verifies_tokens(one, places, mesh)), None)
        if open_ is not None:
            what = f"the claim {kinds[KeyKind.CLAIM].name}"
            lacking = f"no RequestAuthentication verifies a token at {open_.name}"
            report.add(NOBODY_VERIFIED, at(limit.origin), name=limit.name, what=what, lacking=lacking)


def _knows_consumers(place: Place, places: Places) -> bool:
    return any(one.api_keys or one.certificates for one in places.holding("clients", place))


def _look_at_address(limit: Limit, held: Sequence[Place], report: Report) -> None:
    if any(key.kind is KeyKind.ADDRESS for key in limit.by):
        before = next((one for one in held if not one.target.gateway), None)
        if before is not None:
            report.add(CALLERS_SAY, at(limit.origin), name=limit.name, where=before.name)


def _look_at_headers(limit: Limit, held: Sequence[Place], places: Places, report: Report) -> None:
    """Policies that are equally specific hold together: a limit of any of them may be the one that is needed."""
    header = next((key.name for key in limit.by if key.kind is KeyKind.HEADER), None)
    if header is None or limit.shadow:
        return
    for place in held:
        others = (other for policy in places.holding("limits", place) for other in policy.limits)
        if not any(_holds(other, limit) for other in others):
            report.add(CLIENTS_CHOOSE, at(limit.origin), name=limit.name, header=header)
            return


def _holds(other: Limit, limit: Limit) -> bool:
    """Whether it holds back who is to be held back by ``limit``, whatever that writes."""
    methods = not other.methods or (bool(limit.methods) and set(limit.methods) <= set(other.methods))
    plans = not other.plans or (bool(limit.plans) and set(limit.plans) <= set(other.plans))
    return methods and plans and not other.shadow and all(key.kind is not KeyKind.HEADER for key in other.by)


CHECK = Check("limit-key", (NOBODY_VERIFIED, CLIENTS_CHOOSE, CALLERS_SAY), run)
