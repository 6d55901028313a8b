"""WorkloadEntry: one instance of a program that no Kubernetes runs. A loopback address: one of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from isthmus.config.decode import Reader, checked, integer, later, map_of, optional, port, record, required, text
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.host import is_ip, name_problem
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.shape.service_account import service_account
from isthmus.kinds.shape.version import NETWORKING
from isthmus.model.mesh import Mesh
from isthmus.model.workload import Placement, Workload, WorkloadGroup, WorkloadPort

TLS_MODE_LABEL = "security.istio.io/tlsMode"
NODE_SOURCE = "<node "
"""How the place of an entry begins, in place of a file, that a machine which joined gave: then comes its name."""
GROUP_ANNOTATION = "istio.io/autoRegistrationGroup"
"""Of such an entry: the WorkloadGroup that it is made of (Istio's own annotation)."""

NO_GROUP = Code(
    "ISM2270",
    Severity.ERROR,
    "A machine of a WorkloadGroup that is not there",
    'there is no WorkloadGroup "{name}": the machine that registered for it is left out',
    what="A machine joined for a WorkloadGroup, and the manifests do not have the group, or not any more.",
    why="The group says which identity, labels and ports the machine has: without it there is nothing to say.",
    example="(`isthmus proxy sidecar --workload-group shop/orders`, and an edit that removes that WorkloadGroup)",
    fix="Put the WorkloadGroup back, or end the proxy of that machine.",
    stops=False,
)


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
    made = (_of_node(one, mesh, report) if _is_of_node(one) else _workload(one) for one in resources)
    return replace(mesh, workloads=(*mesh.workloads, *(one for one in made if one is not None)))


def _is_of_node(resource: Resource[WorkloadEntrySpec]) -> bool:
    return resource.source.file.startswith(NODE_SOURCE)


@remembered
def _of_node(resource: Resource[WorkloadEntrySpec], mesh: Mesh, report: Report) -> Workload | None:
    """What a machine that joined carries; None: of a group that is not there."""
    spec = resource.spec
    own = WorkloadGroup(
        resource.name, resource.namespace, spec.labels, spec.ports, spec.service_account, 1, None, resource.origin
    )
    name = resource.annotations.get(GROUP_ANNOTATION)
    group = own if name is None else mesh.workload_groups.get(f"{resource.namespace}/{name}")
    if group is None:
        report.add(NO_GROUP, resource.root, name=f"{resource.namespace}/{name}")
        return None
    return Workload(
        name=resource.name,
        namespace=resource.namespace,
        labels=group.labels,
        service_account=group.service_account,
        address=spec.address,
        # Where the program listens is the machine's to say.
        ports=tuple(WorkloadPort(name, number) for name, number in group.ports.items()),
        placement=Placement.NODE,
        origin=resource.origin,
        weight=group.weight,
        node=resource.source.file.removeprefix(NODE_SOURCE).removesuffix(">"),
        probe=group.probe,
    )


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
