"""DestinationRule: subsets of a service, and how its clients speak to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.destination_rule.pitfall import report_pitfalls
from isthmus.kinds.destination_rule.spec import SPEC, DestinationRuleSpec, SubsetSpec
from isthmus.kinds.shape.host import NOT_FOUND, find_service, full_host
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.version import NETWORKING
from isthmus.model.cluster import Service, ServicePolicy, Subset
from isthmus.model.gateway import narrower_host
from isthmus.model.mesh import Mesh
from isthmus.model.traffic_policy import LeveledPolicy

FOREIGN_RULE = Code(
    "ISM2130",
    Severity.WARNING,
    "A DestinationRule of a third namespace",
    'a rule of namespace "{namespace}" has no effect on {host}: it counts in the service\'s or the root namespace only',
    what="The rule stands neither in the namespace of its service nor in the root namespace.",
    why="In Istio it would hold for clients of its own namespace only; rules per client are not supported yet.",
    example="metadata: {namespace: web}\nspec: {host: orders.shop.svc.cluster.local}",
    fix="Move the rule into the service's namespace.",
)
SHADOWED = Code(
    "ISM2131",
    Severity.WARNING,
    "A DestinationRule that another one hides",
    "{what} has no effect: {other} comes first",
    what="Two DestinationRules for one service say different things about the same.",
    why="For one service the rule of its namespace, then the most specific host, then the first loaded counts.",
    example="two rules of one namespace for the same host, both with a trafficPolicy",
    fix="Merge the rules into one.",
)


_Rule = Resource[DestinationRuleSpec]


def apply(resources: Sequence[_Rule], mesh: Mesh, report: Report) -> Mesh:
    rules: dict[str, list[_Rule]] = {}
    for rule in resources:
        for service in _services(rule, mesh, report):
            if rule.namespace in (service.namespace, mesh.settings.root_namespace):
                rules.setdefault(service.host, []).append(rule)
            else:
                at = rule.spec.at.at("host")
                report.add(FOREIGN_RULE, at, namespace=rule.namespace, host=service.host)
    services = dict(mesh.services)
    for host, written in rules.items():
        winners = _in_force(services[host], written, mesh, report)
        services[host] = replace(services[host], policy=_policy(winners, report))
        for rule in winners:
            report_pitfalls(rule.spec, services[host], mesh, report)
    return replace(mesh, services=services)


def _services(rule: _Rule, mesh: Mesh, report: Report) -> tuple[Service, ...]:
    """The services that a rule's host means."""
    at, written = rule.spec.at.at("host"), rule.spec.host
    host = full_host(written, rule.namespace, mesh.settings)
    if not host.startswith("*"):
        service = find_service(written, rule.namespace, mesh, at, report)
        return (service,) if service is not None else ()
    services = tuple(service for service in mesh.services.values() if narrower_host(host, service.host) == service.host)
    if not services:
        report.add(NOT_FOUND, at, kind="service", name=written, hint="")
    return services


def _in_force(service: Service, rules: list[_Rule], mesh: Mesh, report: Report) -> list[_Rule]:
    """The service's own namespace before the root, there the most specific host; the rules of that host are merged."""

    def rank(rule: _Rule) -> tuple[bool, int]:
        host = full_host(rule.spec.host, rule.namespace, mesh.settings)
        return rule.namespace != service.namespace, -len(host) if host.startswith("*") else -1000

    best = min(map(rank, rules))
    winners = [rule for rule in rules if rank(rule) == best]
    for rule in rules:
        # A broad rule is meant to be overridden; one for this very host is not.
        if rule not in winners and not rule.spec.host.startswith("*"):
            report.add(SHADOWED, rule.spec.at.at("host"), what="this rule", other=winners[0].origin.ref)
    return winners


def _policy(rules: Sequence[_Rule], report: Report) -> ServicePolicy:
    """Subsets of all rules together, the first trafficPolicy (Istio: pilot/pkg/model/destination_rule.go)."""
    subsets: dict[str, tuple[Subset, _Rule]] = {}
    first: _Rule | None = None
    for rule in rules:
        for spec in rule.spec.subsets:
            if spec.name in subsets:
                other = subsets[spec.name][1].origin.ref
                report.add(SHADOWED, spec.at.at("name"), what=f'this subset "{spec.name}"', other=other)
            else:
                subsets[spec.name] = (_subset(spec, rule), rule)
        if rule.spec.traffic_policy is None:
            continue
        if first is None:
            first = rule
        else:
            report.add(SHADOWED, rule.spec.traffic_policy.at, what="this trafficPolicy", other=first.origin.ref)
    written = first.spec.traffic_policy if first is not None else None
    return ServicePolicy(
        subsets=tuple(subset for subset, _ in subsets.values()),
        traffic=written.leveled if written is not None else LeveledPolicy(),
        origins=tuple(rule.origin for rule in rules),
    )


def _subset(spec: SubsetSpec, rule: _Rule) -> Subset:
    traffic = spec.traffic_policy.leveled if spec.traffic_policy is not None else LeveledPolicy()
    return Subset(spec.name, spec.labels, traffic, replace(rule.origin, source=spec.at.source))


KIND = Kind(
    name="DestinationRule",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="Subsets of a service by labels; the pools, ejection, load balancing and TLS of those who call it.",
)
