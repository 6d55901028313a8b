"""Rules about tokens where nobody verifies any."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import Target, targets
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
    blind = [target for target in targets(mesh) if not _verifies(target, mesh)]
    for policy in mesh.policies.access:
        scope = policy.attachment.scope
        names = [target.key for target in blind if scope is not None and target.within(scope)]
        for rule in policy.rules if names else ():
            if _asks_token(rule):
                report.add(UNVERIFIED_TOKEN, at(rule.origin), names=listed(names))


def _verifies(target: Target, mesh: Mesh) -> bool:
    if any(target.within(policy.scope) and policy.rules for policy in mesh.policies.request):
        return True
    scopes = (policy.attachment.scope for policy in mesh.policies.clients)
    return any(scope is None or target.within(scope) for scope in scopes)


def _asks_token(rule: AccessRule) -> bool:
    """Whether it cannot be met without one."""
    return any(transform(wanted, _without_token) == FALSE for _, wanted in rule.checks)


def _without_token(leaf: Leaf) -> Predicate:
    return FALSE if leaf == TOKEN else TRUE


CHECK = Check("unverified-token", (UNVERIFIED_TOKEN,), run)
