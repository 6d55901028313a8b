"""Rules about tokens where nobody verifies any."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.place import Place, Places
from isthmus.diag import Code, Report, Severity
from isthmus.model.access import TOKEN, AccessRule
from isthmus.model.mesh import Mesh
from isthmus.model.predicate import FALSE, TRUE, Leaf, Predicate, transform

UNVERIFIED_TOKEN = Code(
    "ISM5083",
    Severity.WARNING,
    "A rule about tokens where none is verified",
    "nobody verifies tokens at {names}: no request passes this rule there",
    what="A rule of an AccessPolicy asks for a token at a workload that no RequestAuthentication selects.",
    why="Claims are those of a token that this very proxy verified. What a gateway verified it does not tell.",
    example="kind: AccessPolicy\nspec: {selector: {matchLabels: {app: orders}}, rules: [{scopes: ['orders:write']}]}",
    fix="Add a RequestAuthentication for the workload; at the gateway's, forwardOriginalToken: true sends it on.",
)


def run(mesh: Mesh, report: Report) -> None:
    places = Places(mesh)
    for policy in mesh.policies.access:
        asking = [rule for rule in policy.rules if _asks_token(rule)]
        held = places.of("access", policy) if asking else ()
        names = [place.name for place in held if not verifies_tokens(place, places, mesh)]
        for rule in asking if names else ():
            report.add(UNVERIFIED_TOKEN, at(rule.origin), names=listed(names))


def verifies_tokens(place: Place, places: Places, mesh: Mesh) -> bool:
    """Whether a token that comes there is looked at, by a RequestAuthentication or a ClientAuthentication."""
    if any(place.target.within(policy.scope) and policy.rules for policy in mesh.policies.request):
        return True
    return any(one.jwt or one.introspection or one.oidc for one in places.holding("clients", place))


def _asks_token(rule: AccessRule) -> bool:
    """Whether it cannot be met without one."""
    return any(transform(wanted, _without_token) == FALSE for _, wanted in rule.checks)


def _without_token(leaf: Leaf) -> Predicate:
    return FALSE if leaf == TOKEN else TRUE


CHECK = Check("unverified-token", (UNVERIFIED_TOKEN,), run)
