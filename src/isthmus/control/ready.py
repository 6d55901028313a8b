"""The ready document: what runs and where, for people's scripts. Its shape is a contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.control.desired import local_workloads
from isthmus.model.mesh import Mesh
from isthmus.model.offer import LOCAL_NODE
from isthmus.model.proxy import Proxy, Role
from isthmus.model.world import World
from isthmus.proxy.place import Folders
from isthmus.xds.endpoint import sidecar_id
from isthmus.xds.health_port import health_checks


def ready_document(mesh: Mesh, world: World, folders: Folders, pid: int, api: str, http: str) -> dict[str, Any]:
    """``pid`` is the supervisor's (or that of ``serve``), ``api`` and ``http`` the two addresses of the API."""
    return {
        "pid": pid,
        "state": str(folders.state),
        "ca_bundle": str(Path(folders.state) / "ca" / "bundle.pem"),
        "control_plane": {"api": api, "http": http},
        "workload_api": f"unix://{folders.workload_socket}",
        "gateways": [
            _gateway(mesh, world, folders, proxy)
            for proxy in mesh.proxies
            if proxy.role is Role.GATEWAY and proxy.node == LOCAL_NODE
        ],
        "workloads": _workloads(mesh, world, folders),
    }


def _gateway(mesh: Mesh, world: World, folders: Folders, proxy: Proxy) -> dict[str, Any]:
    hosts: dict[int, dict[str, None]] = {}
    for gateway in mesh.gateways_of(proxy):
        for server in gateway.servers:
            hosts.setdefault(server.port, {}).update((host.name, None) for host in server.hosts)
    listeners = [
        {"declared_port": port, "address": str(address), "hosts": list(names)}
        for port, names in sorted(hosts.items())
        if (address := world.address(proxy.id, "gateway", port)) is not None
    ]
    return {
        "name": proxy.name,
        "namespace": proxy.namespace,
        "spiffe_id": proxy.identity.uri,
        "admin_socket": str(folders.admin_socket(proxy.id)),
        "listeners": listeners,
        "health_checks": [
            {"declared_port": port, "address": str(address), "paths": list(paths)}
            for port, paths in sorted(health_checks(mesh, proxy).items())
            if (address := world.address(proxy.id, "gateway", port)) is not None
        ],
    }


def _workloads(mesh: Mesh, world: World, folders: Folders) -> list[dict[str, Any]]:
    found = []
    for workload in local_workloads(mesh):
        proxy = mesh.proxies_by_id[sidecar_id(workload)]
        if proxy.node != LOCAL_NODE:
            continue
        inbound = {
            str(port.number): str(address)
            for port in mesh.inbound_ports(workload)
            if (address := world.address(proxy.id, "inbound", port.number)) is not None
        }
        found.append(
            {
                "name": workload.name,
                "namespace": workload.namespace,
                "spiffe_id": proxy.identity.uri,
                "inbound": inbound,
                "outbound_proxy": str(world.address(proxy.id, "outbound", 0) or ""),
                "admin_socket": str(folders.admin_socket(proxy.id)),
                "isolated": proxy.id in world.isolated,
            }
        )
    return found
