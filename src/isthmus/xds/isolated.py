"""What a sidecar in a network of its own is given instead: every address outside becomes a Unix socket of the relay.

A pass over what was built for any sidecar, so that no builder has to know of it. What listens inside, and what is a
Unix socket or an internal listener already, stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.envoy_api.packages import cluster_v3
from isthmus.model.mesh import Mesh
from isthmus.model.world import Address, World
from isthmus.xds.address import is_name, socket_address
from isthmus.xds.endpoint import backends
from isthmus.xds.name import PASSTHROUGH
from isthmus.xds.relay import relay_socket
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, ROUTE, Built, build, message

_INBOUND = "inbound|"
"""Clusters of the program itself, which is inside."""


def outside(mesh: Mesh, world: World) -> frozenset[Address]:
    """What isolated sidecars may dial by way of the relay: everybody behind a service who is no Unix socket."""
    if not world.isolated:
        return frozenset()
    return frozenset(
        backend.address
        for service in mesh.services.values()
        for port in service.ports
        for backend in backends(mesh, world, service, port)
        if not backend.address.is_unix
    )


def by_relay(built: Built, sockets: str) -> Built:
    """``built`` for an isolated sidecar; ``sockets``: the folder of the relay's Unix sockets."""
    if built.type_url == CLUSTER and not built.name.startswith(_INBOUND):
        cluster: Any = message(built)
        changed = _anywhere(cluster, sockets) if built.name == PASSTHROUGH else _relay_cluster(cluster, sockets)
        return build(built.name, cluster, built.origins) if changed else built
    if built.type_url == ENDPOINT:
        assignment: Any = message(built)
        return build(built.name, assignment, built.origins) if _relay_endpoints(assignment, sockets) else built
    if built.type_url == ROUTE and PASSTHROUGH.encode() in built.wire:
        routes: Any = message(built)
        return build(built.name, routes, built.origins) if _relay_tunnels(routes) else built
    return built


def _relay_cluster(cluster: Any, sockets: str) -> bool:
    if not _relay_endpoints(cluster.load_assignment, sockets):
        return False
    # There is nothing left to look up: the relay does, in the network that has a DNS.
    cluster.type = cluster_v3.Cluster.STATIC
    return True


def _relay_endpoints(assignment: Any, sockets: str) -> bool:
    changed = False
    for endpoint in _endpoints(assignment):
        if endpoint.address.HasField("socket_address"):
            there = endpoint.address.socket_address
            if not endpoint.hostname and is_name(there.address):
                # What a DNS cluster takes the name of its host from, for routes that rewrite it.
                endpoint.hostname = there.address
            to = Address(there.address, there.port_value)
            endpoint.address.CopyFrom(socket_address(Address.unix(relay_socket(sockets, to))))
            changed = True
    return changed


def _endpoints(assignment: Any) -> Iterator[Any]:
    for locality in assignment.endpoints:
        for one in locality.lb_endpoints:
            yield one.endpoint


def _relay_tunnels(routes: Any) -> bool:
    """A CONNECT to wherever goes on to the relay as it is: that knows what to dial, and ends it."""
    changed = False
    for host in routes.virtual_hosts:
        for route in host.routes:
            if route.route.cluster == PASSTHROUGH:
                for upgrade in route.route.upgrade_configs:
                    changed = changed or upgrade.HasField("connect_config")
                    upgrade.ClearField("connect_config")
    return changed


def _anywhere(cluster: Any, sockets: str) -> bool:
    """The relay is the HTTP proxy that looks up and dials what a request names."""
    cluster.ClearField("cluster_type")
    cluster.ClearField("lb_policy")
    cluster.type = cluster_v3.Cluster.STATIC
    cluster.load_assignment.cluster_name = cluster.name
    endpoint = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.CopyFrom(socket_address(Address.unix(relay_socket(sockets, None))))
    return True
