"""The ready document: what runs and where, for people's scripts. Its shape is a contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.control.desired import local_workloads
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy, Role
from isthmus.model.world import World
from isthmus.proxy.place import Folders
from isthmus.xds.endpoint import sidecar_id


def ready_document(mesh: Mesh, world: World, folders: Folders, pid: int, api: str, http: str) -> dict[str, Any]:
    """``pid`` is the supervisor's (or that of ``serve``), ``api`` and ``http`` the two addresses of the API."""
    return {
        "pid": pid,
        "state": str(folders.state),
        "ca_bundle": str(Path(folders.state) / "ca" / "root.pem"),
        "control_plane": {"api": api, "http": http},
        "gateways": [_gateway(mesh, world, folders, proxy) for proxy in mesh.proxies if proxy.role is Role.GATEWAY],
        "workloads": _workloads(mesh, world, folders),
    }


def _gateway(mesh: Mesh, world: World, folders: Folders, proxy: Proxy) -> dict[str, Any]:
    hosts: dict[int, list[str]] = {}
    for gateway in mesh.gateways_of(proxy):
        for server in gateway.servers:
            known = hosts.setdefault(server.port, [])
            known.extend(host.name for host in server.hosts if host.name not in known)
    listeners = [
        {"declared_port": port, "address": str(address), "hosts": names}
        for port, names in sorted(hosts.items())
        if (address := world.address(proxy.id, "gateway", port)) is not None
    ]
    return {
        "name": proxy.name,
        "namespace": proxy.namespace,
        "spiffe_id": proxy.identity.uri,
        "admin_socket": str(folders.admin_socket(proxy.id)),
        "listeners": listeners,
    }


def _workloads(mesh: Mesh, world: World, folders: Folders) -> list[dict[str, Any]]:
    found = []
    for workload in local_workloads(mesh):
        proxy = mesh.proxies_by_id[sidecar_id(workload)]
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
