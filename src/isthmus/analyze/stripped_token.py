"""A gateway that takes the token off, before a workload that wants one of the same issuer."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import Target, targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.policy import JwtRule
from isthmus.model.proxy import Role
from isthmus.model.route import Forward
from isthmus.model.selector import labels_match

STRIPPED_TOKEN = Code(
    "ISM5006",
    Severity.WARNING,
    "The gateway takes off a token that is wanted behind it",
    'tokens of "{issuer}" are taken off here (forwardOriginalToken is not set) and wanted again by {names}',
    what="A gateway and a workload behind it verify tokens of one issuer, and the gateway does not pass them on.",
    why="The workload sees no token: its rules on claims match nothing, and rules without claims let everybody in.",
    example="kind: RequestAuthentication   # at the gateway\nspec:\n  jwtRules: [{issuer: https://auth.example.com}]",
    fix="Set forwardOriginalToken: true in the gateway's rule.",
)


def run(mesh: Mesh, report: Report) -> None:
    known = targets(mesh)
    for gateway in known:
        stripping = [rule for rule in _rules(gateway, mesh) if not rule.forward_original_token]
        if not gateway.gateway or not stripping:
            continue
        behind = list(_behind(gateway, known, mesh))
        for rule in stripping:
            names = [
                target.key for target in behind if any(wanted.issuer == rule.issuer for wanted in _rules(target, mesh))
            ]
            if names:
                report.add(STRIPPED_TOKEN, at(rule.origin), issuer=rule.issuer, names=listed(names))


def _rules(target: Target, mesh: Mesh) -> Iterator[JwtRule]:
    for policy in mesh.policies.request:
        if target.within(policy.scope):
            yield from policy.rules


def _behind(gateway: Target, known: tuple[Target, ...], mesh: Mesh) -> Iterator[Target]:
    """The targets of the services that routes of the gateway lead to."""
    services = [mesh.services[host] for host in _hosts(gateway, mesh) if host in mesh.services]
    for target in known:
        if not target.gateway and any(
            service.namespace == target.namespace and service.selector and labels_match(service.selector, target.labels)
            for service in services
        ):
            yield target


def _hosts(gateway: Target, mesh: Mesh) -> set[str]:
    proxy = next(
        each
        for each in mesh.proxies
        if each.role is Role.GATEWAY and (each.namespace, each.name) == (gateway.namespace, gateway.name)
    )
    keys = {each.key for each in mesh.gateways_of(proxy)}
    return {
        destination.host
        for table in mesh.routes
        if not keys.isdisjoint(table.gateways)
        for route in table.routes
        if isinstance(route.action, Forward)
        for destination in route.action.targets
    }


CHECK = Check("stripped-token", (STRIPPED_TOKEN,), run)
