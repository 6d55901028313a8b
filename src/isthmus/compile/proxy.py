"""Which Envoys a mesh has."""

from __future__ import annotations

from dataclasses import replace

from isthmus.diag import Code, Place, Report, Severity
from isthmus.model.identity import Identity
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy, Role
from isthmus.model.selector import labels_match
from isthmus.model.workload import Placement

SAME_PROXY = Code(
    "ISM2009",
    Severity.ERROR,
    "Two gateway proxies of one name",
    "its proxy would be {id}, which {other} has already: its servers are not opened",
    what="A Gateway that no Deployment carries gets a proxy of its own name, which a Deployment's has already.",
    why="Two proxies of one name would take each other's configuration and identity.",
    example="kind: Deployment, name: edge, labels {app: a}\nkind: Gateway, name: edge, selector {app: b}",
    fix="Give one of them another name, or make the selector match the Deployment's pods.",
)


def assign_proxies(mesh: Mesh, report: Report) -> Mesh:
    """Which Envoys there must be: one per gateway Deployment or lone Gateway, one per workload of this machine."""
    trust_domain = mesh.settings.trust_domain
    gateways: list[Proxy] = []
    for deployment in mesh.deployments:
        if any(labels_match(dict(gateway.selector), deployment.labels) for gateway in mesh.gateways):
            identity = Identity(trust_domain, deployment.namespace, deployment.service_account)
            gateways.append(
                Proxy(
                    Role.GATEWAY, deployment.name, deployment.namespace, deployment.labels, identity, deployment.origin
                )
            )
    for gateway in mesh.gateways:
        if not any(labels_match(dict(gateway.selector), proxy.labels) for proxy in gateways):
            identity = Identity(trust_domain, gateway.namespace, gateway.name)
            labels = dict(gateway.selector)
            proxy = Proxy(Role.GATEWAY, gateway.name, gateway.namespace, labels, identity, gateway.origin)
            other = next((known for known in gateways if known.id == proxy.id), None)
            if other is not None:
                report.add(
                    SAME_PROXY, Place(gateway.origin.source, gateway.origin.ref), id=proxy.id, other=other.origin
                )
                continue
            gateways.append(proxy)
    sidecars = [
        Proxy(
            Role.SIDECAR,
            workload.name,
            workload.namespace,
            workload.labels,
            Identity(trust_domain, workload.namespace, workload.service_account),
            workload.origin,
            workload.node,
        )
        for workload in mesh.workloads
        if workload.placement is not Placement.REMOTE
    ]
    return replace(mesh, proxies=(*gateways, *sidecars))
