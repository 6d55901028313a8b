"""RequestAuthentication alone does not ask for a token: a request without one passes it."""

from __future__ import annotations

from enum import Enum

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.place import Places
from isthmus.analyze.target import Target
from isthmus.diag import Code, Report, Severity
from isthmus.model.attachment import Attached
from isthmus.model.closed_tcp import CLOSING_KINDS
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action, AuthorizationPolicy
from isthmus.model.predicate import FALSE, Claim, Leaf, Peer, Predicate, RequestPrincipal, leaves, transform
from isthmus.model.rego import RegoPolicy

OPTIONAL_TOKEN = Code(
    "ISM5002",
    Severity.WARNING,
    "Tokens are verified, and not asked for",
    "a request without a token passes at {names}: no policy there asks for a principal or a claim",
    what="A RequestAuthentication selects workloads on which no policy asks for a token.",
    why="RequestAuthentication refuses bad tokens only. Whoever sends none is let in.",
    example="kind: RequestAuthentication\nspec: {selector: {matchLabels: {app: orders}}, jwtRules: [...]}   # alone",
    fix='Add an AuthorizationPolicy that asks for one: ALLOW from requestPrincipals: ["*"], or with claims.',
)


def run(mesh: Mesh, report: Report) -> None:
    """A warning for where anybody is let in; only an info for where callers at least have to prove an identity."""
    places = Places(mesh)
    known = places.targets
    doors = {target.key: _door(target, places, mesh) for target in known}
    for policy in mesh.policies.request:
        selected = [target.key for target in known if target.within(policy.scope)]
        for door, severity in ((_Door.OPEN, Severity.WARNING), (_Door.CALLERS, Severity.INFO)):
            names = [key for key in selected if doors[key] is door]
            if names and policy.rules:
                report.add(OPTIONAL_TOKEN, at(policy.origin), severity=severity, names=listed(names))


class _Door(Enum):
    """Who gets in without a token."""

    OPEN = "anybody"
    CALLERS = "callers with an identity"
    CLOSED = "nobody"


def _door(target: Target, places: Places, mesh: Mesh) -> _Door:
    """CLOSED as soon as one rule asks for a token. An external authorizer may, so CUSTOM counts as asking, and Rego.

    So do our own policies about clients: what they take is for their own checks.
    """
    ours = (policy for kind in CLOSING_KINDS for policy in getattr(mesh.policies, kind))
    if any(not _on_trial(policy) and places.concerns(policy.attachment, target) for policy in ours):
        return _Door.CLOSED
    policies = [policy for policy in mesh.policies.authorization if target.within(policy.scope) and not policy.dry_run]
    if any(policy.action is Action.CUSTOM or _asks(policy) for policy in policies):
        return _Door.CLOSED
    allowing = [policy for policy in policies if policy.action is Action.ALLOW]
    if not allowing:
        return _Door.OPEN
    rules = [rule for policy in allowing for rule in policy.rules]
    if not rules:
        return _Door.CLOSED
    return _Door.CALLERS if all(transform(rule.predicate, _without_peer) == FALSE for rule in rules) else _Door.OPEN


def _on_trial(policy: Attached) -> bool:
    return isinstance(policy, RegoPolicy) and policy.dry_run


def _asks(policy: AuthorizationPolicy) -> bool:
    """Whether a rule of it is about tokens, and keeps out who has none."""
    for rule in policy.rules:
        if not any(_of_token(leaf) for leaf in leaves(rule.predicate)):
            continue
        matches_without = transform(rule.predicate, _without_token) != FALSE
        if policy.action is (Action.DENY if matches_without else Action.ALLOW):
            return True
    return False


def _of_token(leaf: Leaf) -> bool:
    return isinstance(leaf, RequestPrincipal | Claim)


def _without_token(leaf: Leaf) -> Predicate:
    return FALSE if _of_token(leaf) else leaf


def _without_peer(leaf: Leaf) -> Predicate:
    return FALSE if isinstance(leaf, Peer) else leaf


CHECK = Check("optional-token", (OPTIONAL_TOKEN,), run)
