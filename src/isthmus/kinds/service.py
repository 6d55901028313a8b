"""``v1`` Service: a name, its ports and the workloads behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from isthmus.config.decode import (
    NOT_YET_NARROWS,
    WRONG_TYPE,
    Reader,
    Unreadable,
    checked,
    enum_of,
    found,
    later,
    list_of,
    map_of,
    narrows,
    noted,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.protocol import UNNAMED_PROTOCOL, port_protocol
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.shape.support import warn_unsupported
from isthmus.model.cluster import Protocol, Resolution, Service, ServicePort
from isthmus.model.mesh import Mesh

DUPLICATE_HOST = Code(
    "ISM2102",
    Severity.ERROR,
    "Two declarations of one service",
    '"{host}" is declared by {other} already: this declaration of it has no effect',
    what="A Service and a ServiceEntry, or two ServiceEntries, declare the same host.",
    why="Istio merges some of these by rules that depend on who came first; here the first alone is in force.",
    example="kind: ServiceEntry\nspec:\n  hosts: [orders.shop.svc.cluster.local]   # also a Service",
    fix="Declare each host once.",
    stops=False,
)
EXPORT_ANNOTATION = "networking.istio.io/exportTo"


class _Type(Enum):
    ClusterIP = "ClusterIP"
    NodePort = "NodePort"
    LoadBalancer = "LoadBalancer"
    ExternalName = "ExternalName"


class _Transport(Enum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


@dataclass(frozen=True, slots=True)
class ServicePortSpec:
    at: Node
    port: int
    name: str
    protocol: _Transport
    app_protocol: str | None
    target_port: int | str | None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    at: Node
    ports: tuple[ServicePortSpec, ...]
    selector: dict[str, str]
    type: _Type
    session_affinity: str


def _target(node: Node, report: Report) -> int | str:
    if isinstance(node.value, str) and node.value:
        return node.value
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return port.read(node, report)
    report.add(WRONG_TYPE, node, expected="a port's number or name", found=found(node))
    raise Unreadable


def _ports_problem(ports: tuple[ServicePortSpec, ...]) -> str | None:
    names = [each.name for each in ports]
    if len(ports) > 1 and "" in names:
        return "each of several ports needs a name"
    if len(set(names)) < len(names):
        return "two ports have the same name"
    if len({(each.port, each.protocol) for each in ports}) < len(ports):
        return "two ports have the same number"
    return None


_PORT = record(
    ServicePortSpec,
    required("port", port),
    optional("name", text, ""),
    optional("protocol", enum_of(_Transport), _Transport.TCP, note="only TCP; other ports are left out with a warning"),
    optional("appProtocol", text),
    optional("targetPort", Reader("a port's number or name", _target)),
    noted("nodePort", "no nodes here"),
)
_CLUSTER = "the business of a cluster's network"
SPEC = record(
    ServiceSpec,
    optional("ports", checked(list_of(_PORT), _ports_problem), ()),
    optional("selector", map_of(text), {}),
    optional("type", enum_of(_Type), _Type.ClusterIP, note="ExternalName is warned about"),
    optional(
        "sessionAffinity",
        checked(text, lambda value: None if value in ("None", "ClientIP") else f'"{value}" is not None or ClientIP'),
        "None",
        note="ClientIP is warned about",
    ),
    noted("clusterIP", _CLUSTER),
    noted("clusterIPs", _CLUSTER),
    noted("ipFamilies", _CLUSTER),
    noted("ipFamilyPolicy", _CLUSTER),
    noted("publishNotReadyAddresses", _CLUSTER),
    noted("sessionAffinityConfig", "belongs to sessionAffinity, which is warned about"),
    noted("externalTrafficPolicy", _CLUSTER),
    noted("internalTrafficPolicy", _CLUSTER),
    noted("trafficDistribution", _CLUSTER),
    noted("healthCheckNodePort", _CLUSTER),
    noted("allocateLoadBalancerNodePorts", _CLUSTER),
    noted("loadBalancerClass", _CLUSTER),
    noted("loadBalancerIP", _CLUSTER),
    later("externalIPs"),
    later("externalName"),
    narrows("loadBalancerSourceRanges"),
)


def apply(resources: Sequence[Resource[ServiceSpec]], mesh: Mesh, report: Report) -> Mesh:
    services = dict(mesh.services)
    for resource in resources:
        service = _service(resource, mesh, report)
        if service is not None:
            add_service(services, service, resource.root.at("metadata", "name"), report)
    return replace(mesh, services=services)


def add_service(services: dict[str, Service], service: Service, at: Node, report: Report) -> None:
    """Put ``service`` into ``services``; the first of a host wins."""
    other = services.get(service.host)
    if other is None:
        services[service.host] = service
    else:
        report.add(DUPLICATE_HOST, at, host=service.host, other=other.origin.ref)


@remembered
def _service(resource: Resource[ServiceSpec], mesh: Mesh, report: Report) -> Service | None:
    spec = resource.spec
    if resource.annotations.get(EXPORT_ANNOTATION, "*") != "*":
        at = resource.root.at("metadata", "annotations", EXPORT_ANNOTATION)
        report.add(NOT_YET_NARROWS, at, name=EXPORT_ANNOTATION)
        return None
    if spec.type is _Type.ExternalName:
        warn_unsupported(spec.at.at("type"), "type: ExternalName", report)
        return None
    if spec.session_affinity == "ClientIP":
        warn_unsupported(spec.at.at("sessionAffinity"), "sessionAffinity: ClientIP", report)
    short = f"{resource.name}.{resource.namespace}"
    return Service(
        host=f"{short}.{mesh.settings.service_domain}",
        namespace=resource.namespace,
        ports=_ports(spec, report),
        resolution=Resolution.WORKLOADS,
        origin=resource.origin,
        selector=spec.selector or None,
        aliases=(short, f"{short}.svc"),
    )


def _ports(spec: ServiceSpec, report: Report) -> tuple[ServicePort, ...]:
    ports = []
    for each in spec.ports:
        if each.protocol is not _Transport.TCP:
            warn_unsupported(each.at.at("protocol"), f"protocol: {each.protocol.name}", report)
            continue
        protocol = port_protocol(each.app_protocol, each.name, each.port)
        if protocol is None:
            named = f'named "{each.name}"' if each.name else "without a name"
            report.add(UNNAMED_PROTOCOL, each.at, number=each.port, name=named)
        ports.append(ServicePort(each.port, each.name, protocol or Protocol.HTTP, each.target_port))
    return tuple(ports)


KIND = Kind(
    name="Service",
    api_versions=("v1",),
    spec=SPEC,
    apply=apply,
    about="A name that traffic is sent to, its ports, and the labels of the workloads behind it.",
)
