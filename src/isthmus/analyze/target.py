"""What policies attach to: workloads, gateway proxies, and Deployments whose pods no manifest shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from isthmus.diag import Origin
from isthmus.model.cluster import Protocol, Service, ServicePort
from isthmus.model.gateway import Gateway
from isthmus.model.mesh import Deployed, Mesh
from isthmus.model.proxy import Proxy, Role
from isthmus.model.selector import Scope, labels_match
from isthmus.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Target:
    """``ports``: the numbers that policies mean, each with how it is spoken to.

    ``namespaces``: whose policies may select it; ``gateways``: those that a gateway's proxy carries.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[int, Protocol]
    gateway: bool
    origin: Origin
    namespaces: frozenset[str]
    gateways: tuple[Gateway, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def within(self, scope: Scope) -> bool:
        return any(scope.selects(namespace, self.labels) for namespace in self.namespaces)


def targets(mesh: Mesh) -> tuple[Target, ...]:
    """Gateways first, then workloads, then the Deployments that neither of them stands for."""
    gateways = [_gateway(mesh, proxy) for proxy in mesh.proxies if proxy.role is Role.GATEWAY]
    workloads = [_program(each, _workload_ports(mesh, each)) for each in mesh.workloads]
    deployments = [
        _program(each, _pod_ports(mesh, each))
        for each in mesh.deployments
        if not any(_stands_for(known, each) for known in (*gateways, *workloads))
    ]
    return (*gateways, *workloads, *deployments)


def _gateway(mesh: Mesh, proxy: Proxy) -> Target:
    """One without a Deployment is selected in the namespace of any of its Gateways, as ``xds/context.py`` has it."""
    carried = mesh.gateways_of(proxy)
    namespaces = {proxy.namespace}
    if proxy.origin.ref.kind == "Gateway":
        namespaces.update(gateway.namespace for gateway in carried)
    return Target(proxy.name, proxy.namespace, proxy.labels, {}, True, proxy.origin, frozenset(namespaces), carried)


def _program(one: Workload | Deployed, ports: Mapping[int, Protocol]) -> Target:
    return Target(one.name, one.namespace, one.labels, ports, False, one.origin, frozenset({one.namespace}))


def _stands_for(known: Target, deployment: Deployed) -> bool:
    if known.namespace != deployment.namespace:
        return False
    return labels_match(known.labels, deployment.labels) or labels_match(deployment.labels, known.labels)


def _workload_ports(mesh: Mesh, workload: Workload) -> dict[int, Protocol]:
    ports = {port.number: Protocol.HTTP for port in mesh.inbound_ports(workload)}
    for port in _last_first(mesh.services_of(workload)):
        number = mesh.workload_port(port, workload)
        if number is not None:
            ports[number] = port.protocol
    return ports


def _pod_ports(mesh: Mesh, deployment: Deployed) -> dict[int, Protocol]:
    """Only what services say by number: the names of a container's ports are the business of Kubernetes."""
    return {
        port.target if isinstance(port.target, int) else port.number: port.protocol
        for port in _last_first(_services_of_pods(mesh, deployment))
        if not isinstance(port.target, str)
    }


def _services_of_pods(mesh: Mesh, deployment: Deployed) -> list[Service]:
    beside = mesh.services_by_namespace.get(deployment.namespace, ())
    return [each for each in beside if each.selector and labels_match(each.selector, deployment.labels)]


def _last_first(services: Sequence[Service]) -> Iterator[ServicePort]:
    """The ports of services; those that come first count, so they come last."""
    for service in reversed(services):
        yield from reversed(service.ports)
