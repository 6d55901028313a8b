"""DestinationRule: subsets of a service, and how its clients speak to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from isthmus.config.decode import (
    Reader,
    checked,
    enum_of,
    later,
    list_of,
    map_of,
    narrows,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import NOT_FOUND, find_service, full_host, wildcard_host
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.support import EXPORT_TO, refused
from isthmus.kinds.shape.version import NETWORKING
from isthmus.model.cluster import Service, ServicePolicy, Subset, TlsMode
from isthmus.model.gateway import narrower_host
from isthmus.model.mesh import Mesh

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


class _Mode(Enum):
    DISABLE = TlsMode.DISABLE
    ISTIO_MUTUAL = TlsMode.ISTIO_MUTUAL
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"


@dataclass(frozen=True, slots=True)
class TlsSpec:
    at: Node
    mode: _Mode


@dataclass(frozen=True, slots=True)
class TcpSpec:
    at: Node
    connect_timeout: timedelta | None


@dataclass(frozen=True, slots=True)
class PoolSpec:
    at: Node
    tcp: TcpSpec | None


@dataclass(frozen=True, slots=True)
class PortSelector:
    at: Node
    number: int


@dataclass(frozen=True, slots=True)
class PortPolicySpec:
    at: Node
    port: PortSelector
    tls: TlsSpec | None


@dataclass(frozen=True, slots=True)
class PolicySpec:
    at: Node
    tls: TlsSpec | None
    connection_pool: PoolSpec | None
    port_level_settings: tuple[PortPolicySpec, ...]


@dataclass(frozen=True, slots=True)
class SubsetPolicySpec:
    at: Node
    tls: TlsSpec | None


@dataclass(frozen=True, slots=True)
class SubsetSpec:
    at: Node
    name: str
    labels: dict[str, str]
    traffic_policy: SubsetPolicySpec | None


@dataclass(frozen=True, slots=True)
class DestinationRuleSpec:
    at: Node
    host: str
    traffic_policy: PolicySpec | None
    subsets: tuple[SubsetSpec, ...]


def _mode_problem(mode: _Mode) -> str | None:
    if isinstance(mode.value, TlsMode):
        return None
    return f"TLS mode {mode.name} towards a service is not supported yet: refused, since plaintext would go instead"


def _subsets_problem(subsets: tuple[SubsetSpec, ...]) -> str | None:
    names = [subset.name for subset in subsets]
    return "two subsets have the same name" if len(set(names)) < len(names) else None


_TLS = record(
    TlsSpec,
    required("mode", checked(enum_of(_Mode), _mode_problem), note="DISABLE and ISTIO_MUTUAL"),
    later("clientCertificate"),
    later("privateKey"),
    later("credentialName"),
    later("sni"),
    later("insecureSkipVerify"),
    narrows("caCertificates"),
    narrows("caCrl"),
    narrows("subjectAltNames"),
)
_OTHERS = (
    later("loadBalancer"),
    later("outlierDetection"),
    later("tunnel"),
    later("proxyProtocol"),
    later("retryBudget"),
)
_TCP = record(
    TcpSpec,
    optional("connectTimeout", positive_duration),
    later("maxConnections"),
    later("tcpKeepalive"),
    later("maxConnectionDuration"),
    later("idleTimeout"),
)
_PORT_POLICY = record(
    PortPolicySpec,
    required("port", record(PortSelector, required("number", port))),
    optional("tls", _TLS),
    later("connectionPool"),
    later("loadBalancer"),
    later("outlierDetection"),
)
_POLICY = record(
    PolicySpec,
    optional("tls", _TLS),
    optional("connectionPool", record(PoolSpec, optional("tcp", _TCP), later("http"))),
    optional("portLevelSettings", list_of(_PORT_POLICY), ()),
    *_OTHERS,
)
_SUBSET = record(
    SubsetSpec,
    required("name", text),
    optional("labels", map_of(text), {}),
    optional(
        "trafficPolicy",
        record(
            SubsetPolicySpec,
            optional("tls", _TLS),
            later("connectionPool"),
            refused("portLevelSettings", "the subset's ports have the TLS mode of the subset"),
            *_OTHERS,
        ),
    ),
)
SPEC: Reader[DestinationRuleSpec] = record(
    DestinationRuleSpec,
    required("host", wildcard_host),
    optional("trafficPolicy", _POLICY),
    optional("subsets", checked(list_of(_SUBSET), _subsets_problem), ()),
    EXPORT_TO,
    narrows("workloadSelector"),
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
    services = {
        host: replace(service, policy=_policy(_in_force(service, rules[host], mesh, report), report))
        if host in rules
        else service
        for host, service in mesh.services.items()
    }
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
    policy = ServicePolicy(
        subsets=tuple(subset for subset, _ in subsets.values()),
        origins=tuple(rule.origin for rule in rules),
    )
    written = first.spec.traffic_policy if first is not None else None
    if written is None:
        return policy
    tcp = written.connection_pool.tcp if written.connection_pool is not None else None
    timeout = tcp.connect_timeout if tcp is not None else None
    return replace(
        policy,
        tls_mode=_mode(written.tls) or TlsMode.AUTO,
        port_tls_modes=_port_modes(written),
        connect_timeout=timeout or policy.connect_timeout,
    )


def _port_modes(written: PolicySpec) -> Mapping[int, TlsMode] | None:
    """Settings of a port replace those of the service, also where they are silent, as in Istio."""
    return {each.port.number: _mode(each.tls) or TlsMode.AUTO for each in written.port_level_settings} or None


def _mode(tls: TlsSpec | None) -> TlsMode | None:
    return tls.mode.value if tls is not None and isinstance(tls.mode.value, TlsMode) else None


def _subset(spec: SubsetSpec, rule: _Rule) -> Subset:
    tls = spec.traffic_policy.tls if spec.traffic_policy is not None else None
    return Subset(spec.name, spec.labels, _mode(tls), replace(rule.origin, source=spec.at.source))


KIND = Kind(
    name="DestinationRule",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="Subsets of a service by labels, the TLS mode towards it, and its connect timeout.",
)
