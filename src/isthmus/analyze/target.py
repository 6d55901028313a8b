"""What policies attach to: workloads, gateway proxies, and Deployments whose pods no manifest shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from isthmus.diag import Origin
from isthmus.model.cluster import Protocol, ServicePort
from isthmus.model.mesh import Deployed, Mesh
from isthmus.model.proxy import Role
from isthmus.model.selector import Scope, labels_match
from isthmus.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Target:
    """``ports``: the numbers that policies mean, each with how it is spoken to."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[int, Protocol]
    gateway: bool
    origin: Origin

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def within(self, scope: Scope) -> bool:
        return scope.selects(self.namespace, self.labels)


def targets(mesh: Mesh) -> tuple[Target, ...]:
    """Gateways first, then workloads, then the Deployments that neither of them stands for."""
    gateways = [
        Target(proxy.name, proxy.namespace, proxy.labels, {}, True, proxy.origin)
        for proxy in mesh.proxies
        if proxy.role is Role.GATEWAY
    ]
    workloads = [
        Target(each.name, each.namespace, each.labels, _workload_ports(mesh, each), False, each.origin)
        for each in mesh.workloads
    ]
    deployments = [
        Target(each.name, each.namespace, each.labels, _pod_ports(mesh, each), False, each.origin)
        for each in mesh.deployments
        if not any(_stands_for(known, each) for known in (*gateways, *workloads))
    ]
    return (*gateways, *workloads, *deployments)


def _stands_for(known: Target, deployment: Deployed) -> bool:
    if known.namespace != deployment.namespace:
        return False
    return labels_match(known.labels, deployment.labels) or labels_match(deployment.labels, known.labels)


def _workload_ports(mesh: Mesh, workload: Workload) -> dict[int, Protocol]:
    ports = {port.number: Protocol.HTTP for port in mesh.inbound_ports(workload)}
    for port in _service_ports(mesh, workload.namespace, workload.labels):
        number = mesh.workload_port(port, workload)
        if number is not None:
            ports[number] = port.protocol
    return ports


def _pod_ports(mesh: Mesh, deployment: Deployed) -> dict[int, Protocol]:
    """Only what services say by number: the names of a container's ports are the business of Kubernetes."""
    return {
        port.target if isinstance(port.target, int) else port.number: port.protocol
        for port in _service_ports(mesh, deployment.namespace, deployment.labels)
        if not isinstance(port.target, str)
    }


def _service_ports(mesh: Mesh, namespace: str, labels: Mapping[str, str]) -> Iterator[ServicePort]:
    """Of services whose selector matches; those that come first count, so they come last."""
    for service in reversed(tuple(mesh.services.values())):
        if service.namespace == namespace and service.selector and labels_match(service.selector, labels):
            yield from reversed(service.ports)
