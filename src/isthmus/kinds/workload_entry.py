"""WorkloadEntry: one instance of a program that no Kubernetes runs. A loopback address: one of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from isthmus.config.decode import Reader, checked, integer, later, map_of, optional, port, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Report
from isthmus.kinds.shape.host import is_ip, name_problem
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.shape.service_account import service_account
from isthmus.kinds.shape.version import NETWORKING
from isthmus.model.mesh import Mesh
from isthmus.model.workload import Placement, Workload, WorkloadPort

TLS_MODE_LABEL = "security.istio.io/tlsMode"


@dataclass(frozen=True, slots=True)
class WorkloadEntrySpec:
    at: Node
    address: str
    ports: dict[str, int]
    labels: dict[str, str]
    service_account: str
    weight: int


def _address_problem(address: str) -> str | None:
    if address.startswith("unix:"):
        return "Unix sockets are not supported yet"
    if is_ip(address) and ip_address(address).is_unspecified:
        return f'"{address}" is not the address of anybody'
    return name_problem(address)


def is_loopback(address: str) -> bool:
    """Whether ``address`` is one of this machine alone."""
    return ip_address(address).is_loopback if is_ip(address) else address.lower().removesuffix(".") == "localhost"


weight: Reader[int] = checked(integer, lambda value: "a weight is not negative" if value < 0 else None)

SPEC = record(
    WorkloadEntrySpec,
    required("address", checked(text, _address_problem), note="a loopback address: this machine, with a sidecar"),
    optional("ports", map_of(port), {}),
    optional("labels", map_of(text), {}),
    optional("serviceAccount", service_account, "default"),
    optional("weight", weight, 1),
    later("network"),
    later("locality"),
)


def apply(resources: Sequence[Resource[WorkloadEntrySpec]], mesh: Mesh, report: Report) -> Mesh:
    return replace(mesh, workloads=(*mesh.workloads, *map(_workload, resources)))


@remembered
def _workload(resource: Resource[WorkloadEntrySpec]) -> Workload:
    spec = resource.spec
    # The labels of the metadata win (Istio: serviceregistry/serviceentry/conversion.go, convertWorkloadEntry).
    labels = {**spec.labels, **resource.labels}
    local = is_loopback(spec.address)
    return Workload(
        name=resource.name,
        namespace=resource.namespace,
        labels=labels,
        service_account=spec.service_account,
        # Before a program of this machine stands a sidecar that needs an address, and policies compare with it.
        address="127.0.0.1" if local and not is_ip(spec.address) else spec.address,
        ports=tuple(WorkloadPort(name, number, number) for name, number in spec.ports.items()),
        placement=Placement.LOCAL if local else Placement.REMOTE,
        origin=resource.origin,
        weight=spec.weight or 1,
        mutual_tls=local or labels.get(TLS_MODE_LABEL) == "istio",
    )


KIND = Kind(
    name="WorkloadEntry",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="One instance of a program: its address, ports, labels and service account.",
)
