"""ServiceEntry: a service that no Kubernetes Service declares, inside the mesh or outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import ip_network

from isthmus.config.decode import (
    Reader,
    checked,
    enum_of,
    fail,
    later,
    list_of,
    map_of,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.service import add_service
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import host_name, is_ip, wildcard_problem
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.protocol import UNNAMED_PROTOCOL, named_protocol
from isthmus.kinds.shape.service_account import service_account
from isthmus.kinds.shape.support import EXPORT_TO
from isthmus.kinds.shape.version import NETWORKING
from isthmus.kinds.workload_entry import weight
from isthmus.model.cluster import Endpoint, Protocol, Resolution, Service, ServicePort
from isthmus.model.mesh import Mesh

NO_ENDPOINTS = Code(
    "ISM2103",
    Severity.WARNING,
    "A service without endpoints",
    "resolution STATIC without endpoints and without a workloadSelector: requests are answered with 503",
    what="A ServiceEntry says that its endpoints are listed, and lists none.",
    why="There is nobody to send a request to.",
    example="resolution: STATIC   # and no endpoints",
    fix="Add endpoints or a workloadSelector, or choose resolution DNS.",
)
ADDRESS_RANGE = Code(
    "ISM2163",
    Severity.WARNING,
    "A range of addresses for a service",
    'the range "{address}" has no effect: calls name a host or a single address',
    what="A ServiceEntry gives a CIDR range as its addresses.",
    why="Programs call through an explicit proxy by name; one address can stand for a name, a range cannot.",
    example="addresses: [10.0.0.0/24]",
    fix="Give single addresses, or let programs call the host by its name.",
)


class _Resolution(Enum):
    NONE = Resolution.NONE
    STATIC = Resolution.STATIC
    DNS = Resolution.DNS
    DNS_ROUND_ROBIN = Resolution.DNS_ROUND_ROBIN


class _Location(Enum):
    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


@dataclass(frozen=True, slots=True)
class PortSpec:
    at: Node
    number: int
    name: str
    protocol: Protocol | None
    target_port: int | None


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    at: Node
    address: str
    ports: dict[str, int]
    labels: dict[str, str]
    weight: int
    service_account: str | None


@dataclass(frozen=True, slots=True)
class SelectorSpec:
    at: Node
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class ServiceEntrySpec:
    at: Node
    hosts: tuple[str, ...]
    ports: tuple[PortSpec, ...]
    location: _Location
    resolution: _Resolution
    endpoints: tuple[EndpointSpec, ...]
    workload_selector: SelectorSpec | None
    addresses: tuple[str, ...]
    subject_alt_names: tuple[str, ...]


def _protocol(written: str, node: Node, report: Report) -> Protocol:
    protocol = named_protocol(written)
    if protocol is None:
        raise fail(report, node, f'"{written}" is not a protocol (HTTP, HTTP2, GRPC, HTTPS, TLS, TCP)')
    return protocol


def _address_problem(written: str) -> str | None:
    try:
        ip_network(written, strict=False)
    except ValueError:
        return f'"{written}" is not an IP address or a CIDR range'
    return None


def _host_problem(host: str) -> str | None:
    if host == "*":
        return 'the host "*" would be every service'
    return wildcard_problem(host)


def _ports_problem(ports: tuple[PortSpec, ...]) -> str | None:
    if len({each.name for each in ports}) < len(ports):
        return "two ports have the same name"
    if len({each.number for each in ports}) < len(ports):
        return "two ports have the same number"
    return None


def _coherent(spec: ServiceEntrySpec, node: Node, report: Report) -> ServiceEntrySpec:
    if spec.endpoints and spec.workload_selector is not None:
        raise fail(report, node.at("workloadSelector"), "only one of endpoints, workloadSelector can be given")
    if spec.endpoints and spec.resolution is _Resolution.NONE:
        raise fail(report, node.at("endpoints"), "resolution NONE (the default) takes no endpoints: say STATIC or DNS")
    if spec.resolution is _Resolution.DNS_ROUND_ROBIN and len(spec.endpoints) > 1:
        raise fail(report, node.at("endpoints", 1), "DNS_ROUND_ROBIN takes one endpoint: of several, say DNS")
    if spec.resolution in (_Resolution.DNS, _Resolution.DNS_ROUND_ROBIN) and not spec.endpoints:
        for index, host in enumerate(spec.hosts):
            if host.startswith("*"):
                raise fail(report, node.at("hosts", index), f'"{host}" cannot be looked up: DNS needs a whole name')
    names = {each.name for each in spec.ports}
    for endpoint in spec.endpoints:
        if spec.resolution is _Resolution.STATIC and not is_ip(endpoint.address):
            raise fail(report, endpoint.at.at("address"), f'"{endpoint.address}" is not an IP address, as STATIC needs')
        for name in endpoint.ports:
            if name not in names:
                raise fail(report, endpoint.at.at("ports", name), f'the service has no port named "{name}"')
    return spec


_PORT = record(
    PortSpec,
    required("number", port),
    required("name", text),
    optional("protocol", converted(text, _protocol)),
    optional("targetPort", port),
)
_ENDPOINT = record(
    EndpointSpec,
    required("address", host_name),
    optional("ports", map_of(port), {}),
    optional("labels", map_of(text), {}),
    optional("weight", weight, 1),
    optional("serviceAccount", service_account),
    later("network"),
    later("locality"),
)
SPEC: Reader[ServiceEntrySpec] = converted(
    record(
        ServiceEntrySpec,
        required("hosts", list_of(checked(text, _host_problem), least=1)),
        required("ports", checked(list_of(_PORT, least=1), _ports_problem)),
        optional("location", enum_of(_Location), _Location.MESH_EXTERNAL),
        optional("resolution", enum_of(_Resolution), _Resolution.NONE),
        optional("endpoints", list_of(_ENDPOINT), ()),
        optional("workloadSelector", record(SelectorSpec, optional("labels", map_of(text), {}))),
        optional("addresses", list_of(checked(text, _address_problem)), (), note="single ones; a range has no effect"),
        optional("subjectAltNames", list_of(text), ()),
        EXPORT_TO,
    ),
    _coherent,
)


def apply(resources: Sequence[Resource[ServiceEntrySpec]], mesh: Mesh, report: Report) -> Mesh:
    services = dict(mesh.services)
    for resource in resources:
        _tell(resource.spec, report)
        for index, host in enumerate(resource.spec.hosts):
            add_service(services, _service(resource, host), resource.spec.at.at("hosts", index), report)
    return replace(mesh, services=services)


def _tell(spec: ServiceEntrySpec, report: Report) -> None:
    for each in spec.ports:
        if each.protocol is None:
            report.add(UNNAMED_PROTOCOL, each.at, number=each.number, name=f'named "{each.name}"')
    for index, address in enumerate(spec.addresses):
        if not is_ip(address):
            report.add(ADDRESS_RANGE, spec.at.at("addresses", index), address=address)
    if spec.resolution is _Resolution.STATIC and not spec.endpoints and spec.workload_selector is None:
        report.add(NO_ENDPOINTS, spec.at.at("resolution"))


def _service(resource: Resource[ServiceEntrySpec], host: str) -> Service:
    spec = resource.spec
    selector = spec.workload_selector
    resolution = Resolution.WORKLOADS if selector is not None else spec.resolution.value
    return Service(
        host=host.lower().removesuffix("."),
        namespace=resource.namespace,
        ports=tuple(
            ServicePort(each.number, each.name, each.protocol or Protocol.HTTP, each.target_port) for each in spec.ports
        ),
        resolution=resolution,
        origin=resource.origin,
        selector=selector.labels if selector is not None else None,
        endpoints=tuple(
            Endpoint(each.address, each.ports, each.labels, each.weight or 1, each.service_account)
            for each in spec.endpoints
        ),
        external=spec.location is _Location.MESH_EXTERNAL,
        # Of several hosts an address can mean one only: the first.
        addresses=tuple(filter(is_ip, spec.addresses)) if host == spec.hosts[0] else (),
        subject_alt_names=spec.subject_alt_names,
    )


KIND = Kind(
    name="ServiceEntry",
    api_versions=NETWORKING,
    spec=SPEC,
    apply=apply,
    about="A service by its host names, with endpoints of its own, from DNS or from workloads.",
)
