"""What other machines carry, in the mesh: who runs where, at which addresses, and what each is to run. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from isthmus.config.decode import Unreadable
from isthmus.config.documents import read
from isthmus.config.parse import parse
from isthmus.config.resource import Document
from isthmus.control.asked import Asked, ReadSecret, no_secret
from isthmus.control.decisions import planned_services
from isthmus.control.desired import (
    Node,
    control_plane_identity,
    decision_places,
    planned_proxies,
    workload_environment,
)
from isthmus.control.registrations import planned_registrations
from isthmus.control.rego import node_bundles
from isthmus.diag import Ref, Report
from isthmus.errors import Refused
from isthmus.kinds.shape.service_account import service_account_problem
from isthmus.kinds.workload_entry import GROUP_ANNOTATION, NODE_SOURCE, SPEC
from isthmus.model.mesh import Mesh
from isthmus.model.offer import NOBODY, GatewayOffer, Offer, SidecarOffer
from isthmus.model.proxy import Proxy, Role
from isthmus.model.workload import Placement, Workload
from isthmus.model.world import Address, PortKey, World
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import Plan, PlannedWorkload
from isthmus.xds.endpoint import sidecar_id

LOOPBACK = "127.0.0.1"


def gateway_id(offer: GatewayOffer) -> str:
    return f"{Role.GATEWAY.value}~{offer.namespace}~{offer.name}"


def entry_name(node: str, offer: SidecarOffer) -> str:
    """Of the WorkloadEntry that the machine is in the mesh."""
    return node if offer.group is None else f"{offer.group}-{node}"


def entry(node: str, offer: SidecarOffer) -> Document:
    """The WorkloadEntry of a machine. Raises Refused for what no manifest could say."""
    problem = service_account_problem(offer.service_account)
    if problem is not None:
        raise Refused(problem)
    manifest = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": entry_name(node, offer),
            "namespace": offer.namespace,
            "annotations": {GROUP_ANNOTATION: offer.group} if offer.group is not None else {},
        },
        "spec": {
            "address": offer.address,
            "labels": dict(offer.labels),
            "serviceAccount": offer.service_account,
            "ports": {port.name: port.number for port in offer.ports},
        },
    }
    text, report = json.dumps(manifest), Report()
    root = parse(text, f"{NODE_SOURCE}{node}>", 1, report)
    given = read(root, sha256(text.encode()).hexdigest(), "default", report) if root is not None else None
    with suppress(Unreadable):
        if given is not None and given.documents:
            SPEC.read(given.documents[0].root.at("spec"), report)
            return given.documents[0]
    raise Refused("; ".join(found.message for found in report) or "not a workload")


def entries(offers: Mapping[str, Offer], given: frozenset[Ref]) -> Iterator[Document]:
    """Of all machines with a program; what the user wrote under the same name stands before them."""
    for node, offer in offers.items():
        if isinstance(offer, SidecarOffer):
            document = entry(node, offer)
            if document.ref not in given:
                yield document


def placed(mesh: Mesh, offers: Mapping[str, Offer], home: str) -> Mesh:
    """Every proxy with the node that carries it. ``home``: of what no other machine does (NOBODY: it is not run)."""
    carried = {gateway_id(offer): node for node, offer in offers.items() if isinstance(offer, GatewayOffer)}
    by_node = {sidecar_id(one): one.node for one in mesh.workloads if one.placement is Placement.NODE}

    def place(proxy: Proxy) -> Proxy:
        node = carried.get(proxy.id) or by_node.get(proxy.id) or home
        return proxy if proxy.node == node else replace(proxy, node=node)

    proxies = tuple(map(place, mesh.proxies))
    return mesh if proxies == mesh.proxies else replace(mesh, proxies=proxies)


def sidecar_ids(mesh: Mesh) -> list[str]:
    """Of every workload that has a sidecar of ours, wherever it runs."""
    return [sidecar_id(one) for one in mesh.workloads if one.placement is not Placement.REMOTE]


def unhealthy(mesh: Mesh, well: frozenset[str]) -> frozenset[str]:
    """Sidecars whose program is probed, and not called healthy by its node (``well``: those that do)."""
    return frozenset(sidecar_id(one) for one in mesh.workloads if one.probe is not None and one.node not in well)


def left_behind(mesh: Mesh, evicted: frozenset[str]) -> frozenset[str]:
    """Of the identities that evicted nodes had, those that nobody has now: whoever shows one is such a node.

    What an evicted node shares with others cannot be told from theirs by its name: it ends with its certificate.
    """
    if not evicted:
        return frozenset()
    return evicted - {proxy.identity.uri for proxy in mesh.proxies if proxy.node != NOBODY}


def carried(mesh: Mesh, addresses: Mapping[PortKey, Address]) -> dict[PortKey, Address]:
    """Without the places of proxies that nobody runs."""
    return {key: address for key, address in addresses.items() if mesh.proxies_by_id[key.proxy].node != NOBODY}


def remote_places(mesh: Mesh, offers: Mapping[str, Offer]) -> dict[PortKey, Address]:
    """Where what other machines carry listens."""
    places: dict[PortKey, Address] = {}
    for proxy in mesh.proxies:
        offer = offers.get(proxy.node)
        if offer is None or proxy.node == NOBODY:
            continue
        runtime = Path(offer.runtime)
        folders = Folders(runtime, runtime)
        places.update(decision_places(mesh, (proxy.id,), folders))
        socket = folders.metrics_socket(proxy.id)
        places[PortKey(proxy.id, "metrics", 0)] = Address.unix(str(socket))
        if isinstance(offer, GatewayOffer):
            for gateway in mesh.gateways_of(proxy):
                for server in gateway.servers:
                    place = offer.place(server.port)
                    places.setdefault(PortKey(proxy.id, "gateway", server.port), place)
        elif (workload := mesh.workload_of(proxy)) is not None:
            places[PortKey(proxy.id, "outbound", 0)] = Address(LOOPBACK, offer.outbound)
            workload_api = Folders(runtime, runtime).workload_socket
            places[PortKey(proxy.id, "workload-api", 0)] = Address.unix(str(workload_api))
            for port in workload.ports:
                places[PortKey(proxy.id, "inbound", port.number)] = Address(offer.address, port.number)
                places[PortKey(proxy.id, "app", port.number)] = Address(LOOPBACK, offer.app_port(port.number))
    return places


def node_plan(
    mesh: Mesh, world: World, name: str, home: Node, svid_ttl: timedelta, secret: ReadSecret = no_secret
) -> Plan:
    """What another machine runs. It knows by itself how it reaches the control plane, and its program's command."""
    return Plan(
        version=0,
        node=name,
        trust_domain=mesh.settings.trust_domain,
        ads=home.ads,
        control_plane_id=control_plane_identity(mesh).uri,
        enrol_socket="",
        svid_ttl_seconds=int(svid_ttl.total_seconds()),
        proxies=planned_proxies(mesh, world, name),
        registrations=planned_registrations(mesh, name, svid_ttl),
        services=planned_services(mesh, world, name, secret),
        bundles=node_bundles(Asked(mesh, world, name, secret)),
        workloads=tuple(
            _program(mesh, world, workload)
            for workload in mesh.workloads
            if workload.placement is Placement.NODE and workload.node == name
        ),
    )


def _program(mesh: Mesh, world: World, workload: Workload) -> PlannedWorkload:
    return PlannedWorkload(
        proxy=sidecar_id(workload),
        name=workload.name,
        namespace=workload.namespace,
        argv=(),
        env=workload_environment(mesh, world, workload),
        working_directory=".",
        probe=workload.probe,
    )
