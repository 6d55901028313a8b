"""The Mesh: everything declared, folded together by ``compile.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from isthmus.diag import Origin
from isthmus.model.cluster import Service, ServicePort
from isthmus.model.gateway import Gateway
from isthmus.model.policy import AuthorizationPolicy, Broken, PeerAuthentication, RequestAuthentication
from isthmus.model.proxy import Proxy
from isthmus.model.route import MESH, RouteTable
from isthmus.model.selector import labels_match
from isthmus.model.settings import Settings
from isthmus.model.workload import Workload, WorkloadPort


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

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Policies:
    """Security policies, each kind in order of loading, then name, then namespace."""

    peer: tuple[PeerAuthentication, ...] = ()
    request: tuple[RequestAuthentication, ...] = ()
    authorization: tuple[AuthorizationPolicy, ...] = ()
    broken: tuple[Broken, ...] = ()


@dataclass(frozen=True)
class Mesh:
    """Immutable; ``kinds`` make a new one with ``dataclasses.replace``."""

    settings: Settings = field(default_factory=Settings)
    namespaces: frozenset[str] = frozenset()
    service_accounts: frozenset[tuple[str, str]] = frozenset()
    services: Mapping[str, Service] = field(default_factory=dict)
    """By full host name."""
    workloads: tuple[Workload, ...] = ()
    deployments: tuple[Deployed, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    routes: tuple[RouteTable, ...] = ()
    policies: Policies = Policies()
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    """By ``namespace/name``."""

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

    def workload_of(self, proxy: Proxy) -> Workload | None:
        return next((w for w in self.workloads if (w.namespace, w.name) == (proxy.namespace, proxy.name)), None)

    def gateways_of(self, proxy: Proxy) -> tuple[Gateway, ...]:
        return tuple(gateway for gateway in self.gateways if labels_match(dict(gateway.selector), proxy.labels))
