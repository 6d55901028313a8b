"""Rules about what a token says, where tokens of several issuers are taken and the rule does not say whose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.place import Places
from isthmus.analyze.target import Target
from isthmus.diag import Code, Report, Severity
from isthmus.model.access import AccessPolicy
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.mesh import Mesh

UNSAID_ISSUER = Code(
    "ISM5140",
    Severity.WARNING,
    "Claims of whichever issuer",
    "{names} takes tokens of {issuers}, and this rule does not say whose it means: {what}",
    what="A rule of an AccessPolicy asks for groups, scopes or claims where tokens of several issuers are taken.",
    why="Alice of one issuer is not Alice of another, and whoever may choose names at the one would be anybody at the "
    "other. So the claim `groups` counts for nothing there until the rule says whose it is; other claims do count.",
    example="rules: [{groups: [managers]}]   # with two jwtRules in force",
    fix="Write issuers: [https://auth.example.com] beside it; in `when`, claims.iss == 'https://auth.example.com'.",
)


def run(mesh: Mesh, report: Report) -> None:
    held = [policy for policy in mesh.policies.access if any(rule.whoever_says for rule in policy.rules)]
    if not held or len(_all_issuers(mesh)) < 2:
        return
    places = Places(mesh)
    for policy in held:
        found = [(name, issuers) for name, issuers in _where(policy, places, mesh) if len(issuers) > 1]
        names, issuers = [name for name, _ in found], sorted({issuer for _, each in found for issuer in each})
        for rule in policy.rules if found else ():
            if rule.whoever_says:
                closed = (
                    'the claim "groups" of none of them counts' if rule.among_issuers else "what any of them says does"
                )
                report.add(UNSAID_ISSUER, at(rule.origin), names=listed(names), issuers=listed(issuers), what=closed)


def _all_issuers(mesh: Mesh) -> set[str]:
    verified = {rule.issuer for policy in mesh.policies.request for rule in policy.rules}
    return verified | _named(mesh.policies.clients)


def _where(policy: AccessPolicy, places: Places, mesh: Mesh) -> Iterator[tuple[str, set[str]]]:
    """Where it holds, with the issuers whose tokens are taken there."""
    if policy.attachment.scope is not None:
        for target in places.concerned(policy.attachment):
            yield target.key, _verified(target, mesh) | _named(_about(target, places, mesh))
        return
    for place in places.of("access", policy):
        if _chosen_anew(place.target, mesh):
            yield place.name, _verified(place.target, mesh) | _named(_about(place.target, places, mesh))
        else:
            yield place.name, _named(places.holding("clients", place)) or _verified(place.target, mesh)


def _chosen_anew(target: Target, mesh: Mesh) -> bool:
    """Whether a request may come from a route that took another's token (``xds/claim.py``)."""
    carried = {gateway.key for gateway in target.gateways}
    return any(one.clear_route_cache for one in mesh.settings.ext_authz) or any(
        table.asks_claims and not carried.isdisjoint(table.gateways) for table in mesh.routes
    )


def _about(target: Target, places: Places, mesh: Mesh) -> Iterator[ClientAuthentication]:
    return (one for one in mesh.policies.clients if places.concerns(one.attachment, target))


def _verified(target: Target, mesh: Mesh) -> set[str]:
    policies = (policy for policy in mesh.policies.request if target.within(policy.scope))
    return {rule.issuer for policy in policies for rule in policy.rules}


def _named(policies: Iterable[ClientAuthentication]) -> set[str]:
    return {issuer for policy in policies for issuer in policy.token_issuers}


CHECK = Check("unsaid-issuer", (UNSAID_ISSUER,), run)
