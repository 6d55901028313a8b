"""The Mesh: everything declared, folded together by ``compile/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from isthmus.diag import Origin
from isthmus.model.access import AccessPolicy
from isthmus.model.attachment import Attached, TargetKind, distinct
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.cluster import Resolution, Service, ServicePort
from isthmus.model.consumer import Consumer
from isthmus.model.federation import FederatedTrustDomain, TrustDomains
from isthmus.model.gateway import Gateway
from isthmus.model.host import wildcards
from isthmus.model.l4_route import L4Table
from isthmus.model.lifetime import Lifetime
from isthmus.model.peer_mode import peer_mode
from isthmus.model.policy import AuthorizationPolicy, Broken, MutualTls, PeerAuthentication, RequestAuthentication
from isthmus.model.proxy import Proxy
from isthmus.model.reading import Parts
from isthmus.model.registration import WorkloadRegistration
from isthmus.model.route import MESH, RouteTable
from isthmus.model.selector import labels_match
from isthmus.model.settings import Settings
from isthmus.model.telemetry import Telemetry
from isthmus.model.traffic_policy import ClientTls
from isthmus.model.workload import Workload, WorkloadGroup, WorkloadPort


@dataclass(frozen=True, slots=True)
class Deployed:
    """Pod labels of a Deployment: they tell which gateways and workloads exist."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    service_account: str
    origin: Origin
    replicas: int = 1
    injected: bool = False
    """Whether the annotation ``sidecar.istio.io/inject`` stands on it."""


@dataclass(frozen=True, slots=True)
class SecretRef:
    """That a Secret exists and which keys it has; its bytes stay in the manifest until an agent asks for them."""

    name: str
    namespace: str
    keys: frozenset[str]
    digest: str
    """Of the content: a changed secret is pushed anew."""
    origin: Origin
    lifetimes: tuple[Lifetime, ...] = ()
    """Of the certificates and lists in it."""
    must_staple: bool = False
    """Whether its certificate says that it is worth nothing without an OCSP answer beside it."""
    nameless: bool = False
    """Whether its certificate says of nobody that it is theirs."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Policies(Parts):
    """Security policies, each kind in order of loading, then name, then namespace."""

    peer: tuple[PeerAuthentication, ...] = ()
    request: tuple[RequestAuthentication, ...] = ()
    authorization: tuple[AuthorizationPolicy, ...] = ()
    broken: tuple[Broken, ...] = ()
    clients: tuple[ClientAuthentication, ...] = ()
    access: tuple[AccessPolicy, ...] = ()
    rego: tuple[Attached, ...] = ()
    limits: tuple[Attached, ...] = ()


ATTACHED = ("clients", "access", "rego", "limits")
"""The fields of Policies whose kinds are attached by labels or by name (``model/attachment.py``)."""


@dataclass(frozen=True)
class Mesh(Parts):
    """Immutable; ``kinds`` make a new one with ``dataclasses.replace``."""

    settings: Settings = field(default_factory=Settings)
    namespaces: frozenset[str] = frozenset()
    service_accounts: frozenset[tuple[str, str]] = frozenset()
    services: Mapping[str, Service] = field(default_factory=dict)
    """By full host name."""
    workload_groups: Mapping[str, WorkloadGroup] = field(default_factory=dict)
    """By ``namespace/name``."""
    workloads: tuple[Workload, ...] = ()
    deployments: tuple[Deployed, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    routes: tuple[RouteTable, ...] = ()
    l4_routes: tuple[L4Table, ...] = ()
    policies: Policies = Policies()
    telemetry: tuple[Telemetry, ...] = ()
    """In order of loading."""
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    """By ``namespace/name``."""
    federated: tuple[FederatedTrustDomain, ...] = ()
    """Other trust domains whose workloads may be met; each once, none of them ours."""
    registrations: tuple[WorkloadRegistration, ...] = ()
    """In order of loading."""

    consumers: Mapping[str, Consumer] = field(default_factory=dict)
    """By ``namespace/name``."""

    @cached_property
    def trust_domains(self) -> TrustDomains:
        return TrustDomains(self.settings.trust_domains, tuple(one.trust_domain for one in self.federated))

    @cached_property
    def proxies_by_id(self) -> Mapping[str, Proxy]:
        return {proxy.id: proxy for proxy in self.proxies}

    def find_proxy(self, written: str) -> Proxy | None:
        """The proxy that a person means by NAME, NAMESPACE/NAME, NAME.NAMESPACE or its id; None if none, or several."""
        namespace, _, name = written.rpartition("/")
        found = [
            proxy
            for proxy in self.proxies
            if written in (proxy.id, f"{proxy.name}.{proxy.namespace}")
            or (proxy.name == name and namespace in ("", proxy.namespace))
        ]
        return found[0] if len(found) == 1 else None

    @cached_property
    def mesh_routes(self) -> tuple[RouteTable, ...]:
        """The VirtualServices that sidecars obey."""
        return tuple(table for table in self.routes if MESH in table.gateways)

    @cached_property
    def _mesh_tables(self) -> Mapping[str, RouteTable]:
        """By host, or wildcard, as written: the first loaded."""
        return {host: table for table in reversed(self.mesh_routes) for host in table.hosts}

    def mesh_table(self, host: str) -> RouteTable | None:
        """The VirtualService that sidecars obey for a service: the closest host wins, then the first loaded."""
        found = (self._mesh_tables.get(pattern) for pattern in wildcards(host))
        return next((table for table in found if table is not None), None)

    @cached_property
    def _routes_by_gateway(self) -> Mapping[str, tuple[RouteTable, ...]]:
        found: dict[str, list[RouteTable]] = {}
        for table in self.routes:
            for key in dict.fromkeys(table.gateways):
                found.setdefault(key, []).append(table)
        return {key: tuple(tables) for key, tables in found.items()}

    def routes_at(self, gateway: str) -> tuple[RouteTable, ...]:
        """The VirtualServices of a gateway (``namespace/name``, or ``mesh``), in order of loading."""
        return self._routes_by_gateway.get(gateway, ())

    @cached_property
    def originations(self) -> frozenset[ClientTls]:
        """What DestinationRules say of TLS to servers outside the mesh."""
        leveled = (one for service in self.services.values() for one in service.policy.leveled)
        policies = (policy for one in leveled for policy in (one.everywhere, *one.ports.values()))
        return frozenset(one.tls for one in policies if one.tls is not None and one.tls.mode.is_origination)

    @cached_property
    def services_by_namespace(self) -> Mapping[str, Sequence[Service]]:
        """In order of loading."""
        found: dict[str, list[Service]] = {}
        for service in self.services.values():
            found.setdefault(service.namespace, []).append(service)
        return found

    @cached_property
    def _workloads_by_label(self) -> Mapping[tuple[str, str, str], Sequence[Workload]]:
        found: dict[tuple[str, str, str], list[Workload]] = {}
        for workload in self.workloads:
            for key, value in workload.labels.items():
                found.setdefault((workload.namespace, key, value), []).append(workload)
        return found

    @cached_property
    def _services_of(self) -> Mapping[tuple[str, str], Sequence[Service]]:
        found: dict[tuple[str, str], list[Service]] = {}
        for service in self.services.values():
            for workload in self.workloads_of(service):
                found.setdefault((workload.namespace, workload.name), []).append(service)
        return found

    def workloads_of(self, service: Service) -> tuple[Workload, ...]:
        """The workloads that a service's selector matches, in its own namespace."""
        if not service.selector:
            return ()
        key, value = next(iter(service.selector.items()))
        candidates = self._workloads_by_label.get((service.namespace, key, value), ())
        return tuple(workload for workload in candidates if labels_match(service.selector, workload.labels))

    def services_of(self, workload: Workload) -> Sequence[Service]:
        """The services whose selector matches a workload."""
        return self._services_of.get((workload.namespace, workload.name), ())

    def workload_port(self, port: ServicePort, workload: Workload) -> int | None:
        """The workload's port that ``port`` of a service leads to; None: it has none.

        The workload's port of that name, else the target's number, else the workload's port of the target's name,
        else the same number (Istio: the order for WorkloadEntry).
        """
        named = workload.port_named(port.name)
        if named is not None:
            return named.number
        if isinstance(port.target, str):
            target = workload.port_named(port.target)
            return target.number if target is not None else None
        return port.number if port.target is None else port.target

    def inbound_ports(self, workload: Workload) -> tuple[WorkloadPort, ...]:
        """The ports that a workload's sidecar takes: those it declares, then those that services mean by it."""
        ports = {port.number: port for port in workload.ports}
        for service in self.services_of(workload):
            for port in service.ports:
                number = self.workload_port(port, workload)
                if number is not None and number not in ports:
                    ports[number] = WorkloadPort(port.name, number, number)
        return tuple(ports.values())

    @cached_property
    def _workloads_by_name(self) -> Mapping[tuple[str, str], Workload]:
        return {(one.namespace, one.name): one for one in reversed(self.workloads)}

    def workload_of(self, proxy: Proxy) -> Workload | None:
        return self._workloads_by_name.get((proxy.namespace, proxy.name))

    @cached_property
    def _policies_by_namespace(self) -> Mapping[tuple[str, str | None], tuple[Any, ...]]:
        """By kind (a field of Policies) and namespace, with those that speak of every namespace; None: these alone."""
        found: dict[tuple[str, str | None], tuple[Any, ...]] = {}
        for kind in ("authorization", "request", "broken"):
            policies = getattr(self.policies, kind)
            for namespace in {None, *(policy.scope.namespace for policy in policies)}:
                own = (policy for policy in policies if policy.scope.namespace in (None, namespace))
                found[kind, namespace] = tuple(own)
        return found

    def policies_in(self, kind: str, namespaces: frozenset[str]) -> tuple[Any, ...]:
        """The policies of a kind (a field of Policies) that can speak of something in ``namespaces``, in order."""
        if len(namespaces) == 1:
            (namespace,) = namespaces
            by_namespace = self._policies_by_namespace
            return by_namespace.get((kind, namespace), by_namespace[kind, None])
        policies = getattr(self.policies, kind)
        return tuple(policy for policy in policies if policy.scope.namespace in (None, *namespaces))

    @cached_property
    def _attached_by_namespace(self) -> Mapping[tuple[str, str | None], tuple[Any, ...]]:
        """Those with a scope, by kind (a field of Policies) and namespace; None: of every namespace alone."""
        found: dict[tuple[str, str | None], tuple[Any, ...]] = {}
        for kind in ATTACHED:
            policies = [policy for policy in getattr(self.policies, kind) if policy.attachment.scope is not None]
            for namespace in {None, *(policy.attachment.scope.namespace for policy in policies)}:
                own = (policy for policy in policies if policy.attachment.scope.namespace in (None, namespace))
                found[kind, namespace] = tuple(own)
        return found

    def attached_in(self, kind: str, namespaces: frozenset[str]) -> tuple[Any, ...]:
        """The policies of a kind (of ATTACHED) whose scope can hold something in ``namespaces``, in order."""
        by_namespace = self._attached_by_namespace
        found = [by_namespace.get((kind, one), by_namespace[kind, None]) for one in sorted(namespaces)]
        return found[0] if len(found) == 1 else distinct(policy for policies in found for policy in policies)

    @cached_property
    def _targeting(self) -> Mapping[tuple[str, TargetKind, str], tuple[Any, ...]]:
        found: dict[tuple[str, TargetKind, str], list[Any]] = {}
        for kind in ATTACHED:
            for policy in getattr(self.policies, kind):
                for target in dict.fromkeys((one.kind, one.key) for one in policy.attachment.targets):
                    found.setdefault((kind, *target), []).append(policy)
        return {key: tuple(policies) for key, policies in found.items()}

    def targeting(self, kind: str, target: TargetKind, key: str) -> tuple[Any, ...]:
        """The policies of a kind (of ATTACHED) that name a ``target`` (``namespace/name``) or a section of it."""
        return self._targeting.get((kind, target, key), ())

    @cached_property
    def targeted_kinds(self) -> frozenset[str]:
        """The kinds (of ATTACHED) of which any policy names what it is about."""
        return frozenset(kind for kind, _, _ in self._targeting)

    @cached_property
    def anywhere(self) -> bool:
        """Whether any call may go wherever it says: to a service of resolution NONE, or to an excluded port."""
        return any(service.resolution is Resolution.NONE for service in self.services.values()) or any(
            workload.direct_ports for workload in self.workloads
        )

    @cached_property
    def _peer_policies_by_namespace(self) -> Mapping[str, tuple[PeerAuthentication, ...]]:
        """Those that can decide in a namespace: its own and the root's."""
        root = self.settings.root_namespace
        return {
            namespace: tuple(policy for policy in self.policies.peer if policy.namespace in (namespace, root))
            for namespace in {root, *(policy.namespace for policy in self.policies.peer)}
        }

    def peer_mode(self, workload: Workload, port: int) -> tuple[MutualTls, Origin | None]:
        """The mutual TLS mode of a workload's port, and the policy that decides it; None: the default."""
        root, by_namespace = self.settings.root_namespace, self._peer_policies_by_namespace
        policies = by_namespace.get(workload.namespace, by_namespace[root])
        return peer_mode(policies, root, workload.namespace, workload.labels, port)

    def gateways_of(self, proxy: Proxy) -> tuple[Gateway, ...]:
        return tuple(gateway for gateway in self.gateways if labels_match(dict(gateway.selector), proxy.labels))
