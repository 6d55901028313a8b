"""VirtualServices put into the Mesh: names resolved, hosts claimed, hidden routes told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.filters.fault import Fault
from isthmus.kinds.shape.host import NOT_FOUND, find_service, full_host, hint
from isthmus.kinds.virtual_service.match import Earlier, Match
from isthmus.kinds.virtual_service.route import WeightedSpec
from isthmus.kinds.virtual_service.spec import RouteSpec, VirtualServiceSpec
from isthmus.model.cluster import Service
from isthmus.model.gateway import Gateway, narrower_host
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH, Destination, Forward, HttpRoute, Redirect, RouteMatch, RouteTable

MESH_HOST_TAKEN = Code(
    "IST0109",
    Severity.ERROR,
    "Conflicting mesh hosts",
    'host "{host}" has routes in the mesh from {other} already: these have no effect there',
    what="Two VirtualServices bound to the mesh have the same host.",
    why="At sidecars VirtualServices are not merged: the first in order of loading keeps the host.",
    example="two VirtualServices without gateways, both with hosts: [orders]",
    fix="Merge them into one VirtualService.",
    stops=False,
)
PORT_NEEDED = Code(
    "IST0112",
    Severity.ERROR,
    "Destination without a port",
    'service "{host}" has several ports ({ports}): the destination must say which',
    what="A destination names a service of several ports, and no port.",
    why="There is nothing to choose by; the destination answers 503.",
    example="destination: {host: orders}   # orders has ports 80 and 9090",
    fix="Add port: {number: ...} to the destination.",
    stops=False,
)
UNREACHABLE = Code(
    "IST0130",
    Severity.WARNING,
    "Unreachable route",
    "this route is never used: http[{earlier}] before it takes all its requests",
    what="Every request that the route would take is taken by routes before it.",
    why="The first route that matches wins.",
    example="http:\n  - route: [...]   # takes everything\n  - match: [{uri: {prefix: /api}}]\n    route: [...]",
    fix="Put the narrower route first.",
)
INEFFECTIVE_MATCH = Code(
    "IST0131",
    Severity.INFO,
    "Ineffective match",
    "this match is never used: http[{earlier}] before it takes all its requests",
    what="One of the matches of a route is hidden by a route, or a match, before it.",
    why="The first match wins; this one changes nothing.",
    example="match:\n  - uri: {prefix: /}\n  - uri: {prefix: /api}",
    fix="Take the match out, or put the narrower one first.",
)
HOST_NOT_SERVED = Code(
    "IST0132",
    Severity.WARNING,
    "Host not served by the gateway",
    'gateway "{gateway}" has no server for host "{host}": there the routes have no effect',
    what="A VirtualService is bound to a gateway that has no server for one of its hosts.",
    why="Requests for that host never reach the routes.",
    example="kind: VirtualService\nspec: {hosts: [shop.example.com], gateways: [edge]}   # edge serves api.example.com",
    fix="Add the host to a server of the Gateway, or correct it.",
)


def apply(resources: Sequence[Resource[VirtualServiceSpec]], mesh: Mesh, report: Report) -> Mesh:
    tables: list[RouteTable] = []
    taken: dict[str, RouteTable] = {}
    for resource in resources:
        if not resource.spec.http:
            continue
        table = _table(resource, mesh, report)
        tables += _claimed(table, taken, resource.spec.at, report)
    return replace(mesh, routes=(*mesh.routes, *tables))


def _claimed(table: RouteTable, taken: dict[str, RouteTable], at: Node, report: Report) -> list[RouteTable]:
    """``table``; where a mesh host is another's already, split into gateways' and what is left for the mesh."""
    if MESH not in table.gateways:
        return [table]
    lost = [host for host in table.hosts if host in taken]
    for host in lost:
        report.add(MESH_HOST_TAKEN, at.at("hosts", table.hosts.index(host)), host=host, other=taken[host].origin.ref)
    taken.update((host, table) for host in table.hosts if host not in taken)
    if not lost:
        return [table]
    gateways = tuple(gateway for gateway in table.gateways if gateway != MESH)
    hosts = tuple(host for host in table.hosts if host not in lost)
    split = (replace(table, gateways=gateways), replace(table, gateways=(MESH,), hosts=hosts))
    return [part for part in split if part.gateways and part.hosts]


def _table(resource: Resource[VirtualServiceSpec], mesh: Mesh, report: Report) -> RouteTable:
    spec = resource.spec
    hosts = tuple(dict.fromkeys(full_host(host, resource.namespace, mesh.settings) for host in spec.hosts))
    known = {gateway.key: gateway for gateway in mesh.gateways}
    keys = []
    for index, written in enumerate(spec.gateways or (MESH,)):
        at = spec.at.at("gateways", index)
        key = _gateway_key(written, resource.namespace, known, at, report)
        if key in known:
            _tell_unserved(known[key], resource, mesh, report)
        keys.append(key)
    routes = tuple(_route(route, index, resource, known, mesh, report) for index, route in enumerate(spec.http))
    _tell_hidden(spec.http, routes, report)
    return RouteTable(
        name=resource.name,
        namespace=resource.namespace,
        hosts=hosts,
        gateways=tuple(dict.fromkeys(keys)),
        routes=routes,
        origin=resource.origin,
    )


def _gateway_key(written: str, namespace: str, known: dict[str, Gateway], at: Node, report: Report) -> str:
    """``namespace/name``, also of a gateway that does not exist: nothing is bound to it, and never everything."""
    if written == MESH:
        return MESH
    key = written if "/" in written else f"{namespace}/{written}"
    if key not in known:
        beside = [gateway.name for gateway in known.values() if gateway.namespace == namespace]
        elsewhere = [other for other in known if other.endswith(f"/{key.partition('/')[2]}")]
        near = hint(written, elsewhere, 0.0) or hint(written, known if "/" in written else beside)
        report.add(NOT_FOUND, at, kind="gateway", name=written, hint=near)
    return key


def _tell_unserved(gateway: Gateway, resource: Resource[VirtualServiceSpec], mesh: Mesh, report: Report) -> None:
    served = [
        host.name for server in gateway.servers for host in server.hosts if host.namespace in (None, resource.namespace)
    ]
    for index, written in enumerate(resource.spec.hosts):
        host = full_host(written, resource.namespace, mesh.settings)
        if not any(narrower_host(host, other) for other in served):
            report.add(HOST_NOT_SERVED, resource.spec.at.at("hosts", index), gateway=gateway.key, host=host)


def _route(
    spec: RouteSpec,
    index: int,
    resource: Resource[VirtualServiceSpec],
    known: dict[str, Gateway],
    mesh: Mesh,
    report: Report,
) -> HttpRoute:
    action: Forward | Redirect
    if spec.redirect is not None:
        action = spec.redirect
    else:
        action = Forward(
            destinations=tuple(
                _destination(each, len(spec.route), resource.namespace, mesh, report) for each in spec.route
            ),
            rewrite=spec.rewrite,
            timeout=spec.timeout,
            retry=spec.retries,
        )
    return HttpRoute(
        name=spec.name or f"{resource.namespace}/{resource.name}/http[{index}]",
        matches=tuple(_match(match, resource.namespace, known, report) for match in spec.match),
        action=action,
        origin=replace(resource.origin, source=spec.at.source),
        headers=spec.headers,
        filters={Fault: spec.fault} if spec.fault is not None else {},
    )


def _match(written: Match, namespace: str, known: dict[str, Gateway], report: Report) -> RouteMatch:
    if written.gateways is None:
        return written.match
    keys = (
        _gateway_key(name, namespace, known, written.at.at("gateways", index), report)
        for index, name in enumerate(written.gateways)
    )
    return replace(written.match, gateways=tuple(dict.fromkeys(keys)))


def _destination(written: WeightedSpec, among: int, namespace: str, mesh: Mesh, report: Report) -> Destination:
    spec = written.destination
    service = find_service(spec.host, namespace, mesh, spec.at.at("host"), report)
    if service is not None and spec.subset is not None and service.policy.subset(spec.subset) is None:
        near = hint(spec.subset, (subset.name for subset in service.policy.subsets))
        report.add(NOT_FOUND, spec.at.at("subset"), kind=f"subset of {service.host}", name=spec.subset, hint=near)
    written_port = spec.port.number if spec.port is not None else 0
    return Destination(
        host=full_host(spec.host, namespace, mesh.settings),
        port=_port(written, service, report) if service is not None else written_port,
        subset=spec.subset,
        weight=written.weight if among > 1 else 1,
        headers=written.headers,
    )


def _port(written: WeightedSpec, service: Service, report: Report) -> int:
    spec = written.destination
    if spec.port is None:
        if len(service.ports) == 1:
            return service.ports[0].number
        numbers = ", ".join(str(port.number) for port in service.ports)
        report.add(PORT_NEEDED, spec.at, host=service.host, ports=numbers)
        return 0
    if service.port(spec.port.number) is None:
        numbers = ", ".join(str(port.number) for port in service.ports)
        near = f" (it has {numbers})" if numbers else ""
        at = spec.port.at.at("number")
        report.add(NOT_FOUND, at, kind=f"port of {service.host}", name=spec.port.number, hint=near)
    return spec.port.number


def _tell_hidden(specs: Sequence[RouteSpec], routes: Sequence[HttpRoute], report: Report) -> None:
    """IST0130 for a route that nothing reaches, IST0131 for a single match of one."""
    earlier = Earlier()
    for index, (spec, route) in enumerate(zip(specs, routes, strict=True)):
        hidden: list[tuple[Node, int]] = []
        matches = route.matches or (RouteMatch(),)
        for position, match in enumerate(matches):
            by = earlier.covering(match)
            if by is None:
                earlier.add(match, index)
            else:
                hidden.append((spec.at.at("match", position), by))
        if len(hidden) == len(matches):
            report.add(UNREACHABLE, spec.at, earlier=hidden[0][1])
            continue
        for at, by in hidden:
            report.add(INEFFECTIVE_MATCH, at, earlier=by)
