"""CUSTOM rules that ask about what is not known yet when CUSTOM is asked.

Istio's filter order puts CUSTOM before the verification of tokens; its validation refuses rules on identities, too.
"""

from __future__ import annotations

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action, Rule
from isthmus.model.predicate import FALSE, Claim, Leaf, Peer, Predicate, RequestPrincipal, leaves, transform

TOKEN_IN_CUSTOM = Code(
    "ISM5001",
    Severity.WARNING,
    "A CUSTOM rule on a token that is not verified yet",
    "CUSTOM is asked before tokens are verified, {consequence}",
    what="A rule of a CUSTOM policy asks about requestPrincipals or request.auth.*.",
    why="The external authorizer comes first: no claim is known then. Istio refuses such a rule.",
    example="action: CUSTOM\nrules:\n  - when: [{key: 'request.auth.claims[role]', values: [admin]}]",
    fix="Choose requests by path, host or header, and let the authorizer read the token; or use ALLOW and DENY.",
)
PEER_IN_CUSTOM = Code(
    "ISM5010",
    Severity.WARNING,
    "A CUSTOM rule on the caller's identity",
    "Isthmus knows the caller's identity when CUSTOM is asked, but Istio refuses this rule",
    what="A rule of a CUSTOM policy asks about principals, namespaces or service accounts.",
    why="The rule works here, and Istio's validation refuses it: the manifest would not go to a cluster unchanged.",
    example="action: CUSTOM\nrules:\n  - from: [{source: {namespaces: [edge]}}]",
    fix="Choose requests by path, host or address, and let the authorizer look at the caller.",
)


def run(mesh: Mesh, report: Report) -> None:
    for policy in mesh.policies.authorization:
        if policy.action is Action.CUSTOM and not policy.after_authentication:
            for rule in policy.rules:
                _check(rule, report)


def _check(rule: Rule, report: Report) -> None:
    known = leaves(rule.predicate)
    if any(isinstance(leaf, RequestPrincipal | Claim) for leaf in known):
        never = transform(rule.predicate, _without_token) == FALSE
        consequence = "so this rule never matches" if never else "so this rule takes every request as one without"
        report.add(TOKEN_IN_CUSTOM, at(rule.origin), consequence=consequence)
    if any(isinstance(leaf, Peer) for leaf in known):
        report.add(PEER_IN_CUSTOM, at(rule.origin))


def _without_token(leaf: Leaf) -> Predicate:
    return FALSE if isinstance(leaf, RequestPrincipal | Claim) else leaf


CHECK = Check("custom-rule", (TOKEN_IN_CUSTOM, PEER_IN_CUSTOM), run)
