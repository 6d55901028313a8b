"""Endpoints: who stands behind a service's port, and how each is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.envoy_api.packages import endpoint_v3, protobuf
from isthmus.model.cluster import Service, ServicePort, Subset
from isthmus.model.identity import Identity
from isthmus.model.mesh import Mesh
from isthmus.model.policy import MutualTls
from isthmus.model.proxy import Role
from isthmus.model.selector import labels_match
from isthmus.model.workload import Placement, Workload
from isthmus.model.world import Address, World
from isthmus.xds.address import socket_address
from isthmus.xds.metadata import build_metadata, workload_metadata

TRANSPORT_MATCH = "envoy.transport_socket_match"
TLS_MODE = "tlsMode"
ISTIO = "istio"


@dataclass(frozen=True, slots=True)
class Backend:
    """One endpoint: its address, whether its proxy takes mutual TLS, and as whom."""

    address: Address
    mutual_tls: bool
    identity: str | None
    weight: int
    labels: Mapping[str, str]
    about: Mapping[str, str] = field(default_factory=dict)
    """What is told of the workload behind it."""


def sidecar_id(workload: Workload) -> str:
    return f"{Role.SIDECAR.value}~{workload.namespace}~{workload.name}"


def backends(mesh: Mesh, world: World, service: Service, port: ServicePort) -> tuple[Backend, ...]:
    """Everybody behind ``port`` of ``service``. A local workload is always reached through its sidecar."""
    found = [
        backend
        for workload in mesh.workloads_of(service)
        if (backend := _workload_backend(mesh, world, workload, port)) is not None
    ]
    found.extend(_declared_backends(mesh, service, port))
    return tuple(found)


def _workload_backend(mesh: Mesh, world: World, workload: Workload, port: ServicePort) -> Backend | None:
    number = mesh.workload_port(port, workload)
    if number is None:
        return None
    identity = Identity(mesh.settings.trust_domain, workload.namespace, workload.service_account).uri
    mutual_tls = workload.mutual_tls and _takes_mutual_tls(mesh, workload, number)
    if workload.placement is Placement.REMOTE:
        address = Address(workload.address, number)
        return Backend(address, mutual_tls, identity, workload.weight, workload.labels, workload_metadata(workload))
    if world.is_starting(sidecar_id(workload), number) or world.is_unhealthy(sidecar_id(workload)):
        return None
    inbound = world.address(sidecar_id(workload), "inbound", number)
    if inbound is None:
        return None
    return Backend(inbound, mutual_tls, identity, workload.weight, workload.labels, workload_metadata(workload))


def _takes_mutual_tls(mesh: Mesh, workload: Workload, port: int) -> bool:
    """Not where a PeerAuthentication says DISABLE (Istio: core/cluster_tls.go, buildUpstreamTLSSettings)."""
    mode, _ = mesh.peer_mode(workload, port)
    return mode is not MutualTls.DISABLE


def _declared_backends(mesh: Mesh, service: Service, port: ServicePort) -> tuple[Backend, ...]:
    if service.resolution.is_dns and not service.endpoints and not service.selector:
        return (Backend(Address(service.host, _target(port)), False, None, 1, {}),)
    return tuple(
        Backend(
            Address(endpoint.address, endpoint.ports.get(port.name, _target(port))),
            endpoint.labels.get("security.istio.io/tlsMode") == ISTIO,
            # As a WorkloadEntry's: without a name to expect, an endpoint that takes mutual TLS would get plaintext.
            Identity(mesh.settings.trust_domain, service.namespace, endpoint.service_account or "default").uri,
            endpoint.weight,
            endpoint.labels,
        )
        for endpoint in service.endpoints
    )


def _target(port: ServicePort) -> int:
    return port.target if isinstance(port.target, int) else port.number


def in_subset(found: tuple[Backend, ...], subset: Subset | None) -> tuple[Backend, ...]:
    if subset is None:
        return found
    return tuple(backend for backend in found if labels_match(subset.labels, backend.labels))


def build_load_assignment(cluster: str, found: tuple[Backend, ...]) -> Any:
    """The ClusterLoadAssignment of ``cluster``; one locality, weights as declared."""
    endpoints = [_lb_endpoint(backend) for backend in found]
    localities = [endpoint_v3.LocalityLbEndpoints(lb_endpoints=endpoints)] if endpoints else []
    return endpoint_v3.ClusterLoadAssignment(cluster_name=cluster, endpoints=localities)


def _lb_endpoint(backend: Backend) -> Any:
    endpoint = endpoint_v3.LbEndpoint(
        endpoint=endpoint_v3.Endpoint(address=socket_address(backend.address)),
        load_balancing_weight=protobuf.UInt32Value(value=backend.weight),
    )
    if backend.about:
        endpoint.metadata.CopyFrom(build_metadata(backend.about))
    if backend.mutual_tls:
        endpoint.metadata.filter_metadata[TRANSPORT_MATCH].fields[TLS_MODE].string_value = ISTIO
    return endpoint
