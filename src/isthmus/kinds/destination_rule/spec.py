"""What a DestinationRule looks like: a trafficPolicy for the service, for single ports, and for subsets."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.config.decode import (
    Field,
    Reader,
    checked,
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
from isthmus.kinds.destination_rule.balancer import LOAD_BALANCER
from isthmus.kinds.destination_rule.outlier import OUTLIER_DETECTION
from isthmus.kinds.destination_rule.pool import CONNECTION_POOL
from isthmus.kinds.destination_rule.tls import TLS
from isthmus.kinds.shape.host import wildcard_host
from isthmus.kinds.shape.support import EXPORT_TO
from isthmus.model.traffic_policy import (
    ClientTls,
    ConnectionPool,
    LeveledPolicy,
    LoadBalancer,
    OutlierDetection,
    TrafficPolicy,
)


@dataclass(frozen=True, slots=True)
class PortSelector:
    at: Node
    number: int


@dataclass(frozen=True, slots=True)
class PortPolicySpec:
    """Blocks of one port, at their place."""

    at: Node
    port: PortSelector
    tls: ClientTls | None
    connection_pool: ConnectionPool | None
    load_balancer: LoadBalancer | None
    outlier_detection: OutlierDetection | None


@dataclass(frozen=True, slots=True)
class PolicySpec:
    at: Node
    tls: ClientTls | None
    connection_pool: ConnectionPool | None
    load_balancer: LoadBalancer | None
    outlier_detection: OutlierDetection | None
    port_level_settings: tuple[PortPolicySpec, ...]

    @property
    def leveled(self) -> LeveledPolicy:
        return LeveledPolicy(_blocks(self), {each.port.number: _blocks(each) for each in self.port_level_settings})

    @property
    def levels(self) -> tuple[PolicySpec | PortPolicySpec, ...]:
        """All that it says, with the places."""
        return (self, *self.port_level_settings)


def _blocks(written: PolicySpec | PortPolicySpec) -> TrafficPolicy:
    return TrafficPolicy(written.connection_pool, written.outlier_detection, written.load_balancer, written.tls)


@dataclass(frozen=True, slots=True)
class SubsetSpec:
    at: Node
    name: str
    labels: dict[str, str]
    traffic_policy: PolicySpec | None


@dataclass(frozen=True, slots=True)
class DestinationRuleSpec:
    at: Node
    host: str
    traffic_policy: PolicySpec | None
    subsets: tuple[SubsetSpec, ...]


def _subsets_problem(subsets: tuple[SubsetSpec, ...]) -> str | None:
    names = [subset.name for subset in subsets]
    return "two subsets have the same name" if len(set(names)) < len(names) else None


def _ports_problem(settings: tuple[PortPolicySpec, ...]) -> str | None:
    numbers = [each.port.number for each in settings]
    return "two settings are for the same port" if len(set(numbers)) < len(numbers) else None


_BLOCKS: tuple[Field, ...] = (
    optional("tls", TLS),
    optional("connectionPool", CONNECTION_POOL),
    optional("loadBalancer", LOAD_BALANCER),
    optional("outlierDetection", OUTLIER_DETECTION),
)
_PORT_POLICY = record(PortPolicySpec, required("port", record(PortSelector, required("number", port))), *_BLOCKS)
_POLICY = record(
    PolicySpec,
    *_BLOCKS,
    optional("portLevelSettings", checked(list_of(_PORT_POLICY), _ports_problem), ()),
    later("tunnel"),
    later("proxyProtocol"),
    later("retryBudget"),
)
_SUBSET = record(
    SubsetSpec,
    required("name", text),
    optional("labels", map_of(text), {}),
    optional("trafficPolicy", _POLICY),
)
SPEC: Reader[DestinationRuleSpec] = record(
    DestinationRuleSpec,
    required("host", wildcard_host),
    optional("trafficPolicy", _POLICY),
    optional("subsets", checked(list_of(_SUBSET), _subsets_problem), ()),
    EXPORT_TO,
    narrows("workloadSelector"),
)
