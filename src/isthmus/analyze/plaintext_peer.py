"""Rules on the caller's identity at ports that take plaintext, whose callers have none."""

from __future__ import annotations

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import Target, targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.peer_mode import peer_mode
from isthmus.model.policy import Action, MutualTls
from isthmus.model.predicate import All, AnyOf, Not, Peer, Predicate

PLAINTEXT_PEER = Code(
    "ISM5003",
    Severity.WARNING,
    "A rule on identities where plaintext is taken",
    "{names} also takes plaintext, whose callers have no identity: {consequence}",
    what="A rule speaks of callers' identities, on a workload whose mutual TLS mode is not STRICT.",
    why="Whoever calls in plaintext is nobody: not one of those named, and so one of those not named.",
    example="action: ALLOW\nrules:\n  - from: [{source: {notNamespaces: [untrusted]}}]   # and mode PERMISSIVE",
    fix="Set the mode STRICT with a PeerAuthentication, or name in an ALLOW rule who may call.",
)

_CONSEQUENCES = {
    Action.ALLOW: "this rule lets them in",
    Action.DENY: "this rule does not keep them out",
}


def run(mesh: Mesh, report: Report) -> None:
    taking = [target for target in targets(mesh) if not target.gateway and _takes_plaintext(target, mesh)]
    for policy in mesh.policies.authorization:
        names = [target.key for target in taking if target.within(policy.scope)]
        if not names or policy.action not in _CONSEQUENCES:
            continue
        for rule in policy.rules:
            if _names_peers(rule.predicate, negated=policy.action is Action.ALLOW):
                consequence = _CONSEQUENCES[policy.action]
                report.add(PLAINTEXT_PEER, at(rule.origin), names=listed(names), consequence=consequence)


def _takes_plaintext(target: Target, mesh: Mesh) -> bool:
    """On one port at least; one without ports of its own has the mode of none in particular."""
    policies, root = mesh.policies.peer, mesh.settings.root_namespace
    return any(
        peer_mode(policies, root, target.namespace, target.labels, port)[0] is not MutualTls.STRICT
        for port in target.ports or (0,)
    )


def _names_peers(predicate: Predicate, *, negated: bool) -> bool:
    """Whether an identity is asked for: under a negation, or under none."""
    match predicate:
        case All(parts) | AnyOf(parts):
            return any(_names_peers(part, negated=negated) for part in parts)
        case Not(part):
            return _names_peers(part, negated=not negated)
    return isinstance(predicate, Peer) and not negated


CHECK = Check("plaintext-peer", (PLAINTEXT_PEER,), run)
