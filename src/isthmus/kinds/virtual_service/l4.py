"""``tcp[]`` and ``tls[]`` of VirtualServices put into the Mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.host import full_host
from isthmus.kinds.virtual_service.l4_spec import L4MatchSpec, TcpSpec, TlsSpec
from isthmus.kinds.virtual_service.spec import VirtualServiceSpec
from isthmus.kinds.virtual_service.table import destination_of, gateway_key
from isthmus.model.gateway import Gateway, Server, narrower_host
from isthmus.model.l4_route import L4Match, L4Route, L4Table
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH

SUBNETS_IN_MESH = Code(
    "ISM2161",
    Severity.WARNING,
    "Destination subnets in the mesh",
    "destinationSubnets match at gateways only: in the mesh this match is never used",
    what="A tcp or tls route for the mesh matches the address that a connection goes to.",
    why="Programs reach services by name, through their proxy or a local address: there is no such address to match.",
    example="tcp:\n  - match: [{destinationSubnets: [10.0.0.0/8]}]   # no gateways",
    fix="Match by port, or write a VirtualService for each host.",
)
NO_SERVER_FOR_CONNECTIONS = Code(
    "ISM2162",
    Severity.WARNING,
    "Routes of connections that a gateway has no server for",
    'gateway "{gateway}" has no server for {sort} routes of these hosts: they need one of {needed}',
    what="A VirtualService is bound to a gateway with tcp or tls routes, and no server there takes them.",
    why="tls routes are for servers that pass TLS through; a server that ends TLS, or has none, takes tcp routes.",
    example="tls: {mode: SIMPLE, credentialName: db}   # of the server; and tls routes in the VirtualService",
    fix="Use the routes that fit the server, or change the server's protocol and TLS mode.",
)
_NEEDED = {"tls": "protocol TLS or HTTPS with mode PASSTHROUGH", "tcp": "protocol TCP, or TLS with SIMPLE or MUTUAL"}


def apply_l4(resources: Sequence[Resource[VirtualServiceSpec]], mesh: Mesh, report: Report) -> Mesh:
    """The routes of connections. Of VirtualServices with one mesh host the first has it, as for HTTP (IST0109)."""
    known = {gateway.key: gateway for gateway in mesh.gateways}
    taken: set[str] = set()
    tables: list[L4Table] = []
    for resource in resources:
        spec = resource.spec
        hosts = tuple(dict.fromkeys(full_host(host, resource.namespace, mesh.settings) for host in spec.hosts))
        keys = tuple(
            gateway_key(written, resource.namespace, known, spec.at.at("gateways", index), report)
            for index, written in enumerate(spec.gateways or (MESH,))
        )
        free = tuple(host for host in hosts if host not in taken)
        if MESH in keys:
            taken.update(hosts)
        if not spec.tcp and not spec.tls:
            continue
        table = L4Table(
            name=resource.name,
            namespace=resource.namespace,
            hosts=hosts,
            gateways=tuple(key for key in keys if key != MESH),
            tcp=_routes("tcp", spec.tcp, resource, known, mesh, report),
            tls=_routes("tls", spec.tls, resource, known, mesh, report),
            origin=resource.origin,
        )
        _tell_unserved(table, spec.at, known, report)
        if table.gateways:
            tables.append(table)
        if MESH in keys and free:
            tables.append(replace(table, hosts=free, gateways=(MESH,)))
    return replace(mesh, l4_routes=(*mesh.l4_routes, *tables))


def _routes(
    sort: str,
    specs: Sequence[TcpSpec | TlsSpec],
    resource: Resource[VirtualServiceSpec],
    known: dict[str, Gateway],
    mesh: Mesh,
    report: Report,
) -> tuple[L4Route, ...]:
    return tuple(
        L4Route(
            name=f"{resource.namespace}/{resource.name}/{sort}[{index}]",
            matches=tuple(_match(match, resource, known, report) for match in spec.match),
            destinations=tuple(
                destination_of(each, len(spec.route), resource.namespace, mesh, report) for each in spec.route
            ),
            origin=replace(resource.origin, source=spec.at.source),
        )
        for index, spec in enumerate(specs)
    )


def _match(
    spec: L4MatchSpec, resource: Resource[VirtualServiceSpec], known: dict[str, Gateway], report: Report
) -> L4Match:
    written = spec.gateways or resource.spec.gateways or (MESH,)
    if spec.destination_subnets and MESH in written:
        report.add(SUBNETS_IN_MESH, spec.at.at("destinationSubnets"))
    keys = tuple(
        gateway_key(name, resource.namespace, known, spec.at.at("gateways", index), report)
        for index, name in enumerate(spec.gateways)
    )
    return L4Match(
        server_names=tuple(name.lower().removesuffix(".") for name in spec.sni_hosts),
        port=spec.port,
        gateways=keys or None,
        source_labels=tuple(sorted(spec.source_labels.items())),
        source_namespace=spec.source_namespace,
        destination_subnets=spec.destination_subnets,
    )


def _tell_unserved(table: L4Table, at: Node, known: Mapping[str, Gateway], report: Report) -> None:
    for key in table.gateways:
        gateway = known.get(key)
        if gateway is None:
            continue
        for sort, routes in (("tls", table.tls), ("tcp", table.tcp)):
            if routes and not any(_takes(server, sort, table) for server in gateway.servers):
                report.add(NO_SERVER_FOR_CONNECTIONS, at.at(sort), gateway=key, sort=sort, needed=_NEEDED[sort])


def _takes(server: Server, sort: str, table: L4Table) -> bool:
    if server.is_http or server.passthrough is not (sort == "tls"):
        return False
    return any(
        narrower_host(host.name, wanted) is not None
        for host in server.hosts
        if host.namespace in (None, table.namespace)
        for wanted in table.hosts
    )
