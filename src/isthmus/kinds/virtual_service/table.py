"""VirtualServices put into the Mesh: names resolved, hosts claimed, hidden routes told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from isthmus.config.node import Node
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.host import NOT_FOUND, find_service, full_host, hint
from isthmus.kinds.shape.remember import remembered
from isthmus.kinds.virtual_service.delegate import Delegates, Route
from isthmus.kinds.virtual_service.match import Earlier, Match
from isthmus.kinds.virtual_service.route import DestinationSpec, WeightedSpec
from isthmus.kinds.virtual_service.spec import WITHOUT_EFFECT, RouteSpec, VirtualServiceSpec
from isthmus.model.cluster import Service
from isthmus.model.gateway import Gateway, narrower_host
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH, Action, Destination, Forward, HttpRoute, Mirror, RouteMatch, RouteTable

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
    "this route is never used: {earlier} before it takes all its requests",
    what="Every request that the route would take is taken by routes before it.",
    why="The first route that matches wins.",
    example="http:\n  - route: [...]   # takes everything\n  - match: [{uri: {prefix: /api}}]\n    route: [...]",
    fix="Put the narrower route first.",
)
INEFFECTIVE_MATCH = Code(
    "IST0131",
    Severity.INFO,
    "Ineffective match",
    "this match is never used: {earlier} before it takes all its requests",
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
CORS_BY_CLAIMS = Code(
    "ISM2153",
    Severity.WARNING,
    "A CORS policy that is never used",
    "the corsPolicy of a route by claims is never used: that of the route without a token decides",
    what="A route that asks for claims has a corsPolicy.",
    why="CORS is answered before tokens are verified: a browser's preflight brings none.",
    example='match: [{headers: {"@request.auth.claims.group": {exact: beta}}}]\ncorsPolicy: {...}',
    fix="Put the corsPolicy on the route that takes the request without its claims.",
)


def apply(resources: Sequence[Resource[VirtualServiceSpec]], mesh: Mesh, report: Report) -> Mesh:
    tables: list[RouteTable] = []
    taken: dict[str, RouteTable] = {}
    delegates = Delegates(resources)
    for resource in resources:
        if not resource.spec.hosts:
            continue
        table = _table(resource, tuple(delegates.routes(resource, report)), mesh, report)
        # Hosts are claimed by routes of every sort; those of connections are put into the Mesh by l4.py.
        tables += [part for part in _claimed(table, taken, resource.spec.at, report) if part.routes]
    delegates.tell_unused(report)
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


@remembered
def _table(
    resource: Resource[VirtualServiceSpec], entries: tuple[Route, ...], mesh: Mesh, report: Report
) -> RouteTable:
    spec = resource.spec
    hosts = tuple(dict.fromkeys(full_host(host, resource.namespace, mesh.settings) for host in spec.hosts))
    known = {gateway.key: gateway for gateway in mesh.gateways}
    keys = []
    for index, written in enumerate(spec.gateways or (MESH,)):
        at = spec.at.at("gateways", index)
        key = gateway_key(written, resource.namespace, known, at, report)
        if key in known:
            _tell_unserved(known[key], resource, mesh, report)
        keys.append(key)
    routes = tuple(_route(entry, resource, known, mesh, report) for entry in entries)
    _tell_hidden(entries, routes, report)
    return RouteTable(
        name=resource.name,
        namespace=resource.namespace,
        hosts=hosts,
        gateways=tuple(dict.fromkeys(keys)),
        routes=routes,
        origin=resource.origin,
        asks_claims=any(match.asks_claims for route in routes for match in route.matches),
    )


def gateway_key(written: str, namespace: str, known: dict[str, Gateway], at: Node, report: Report) -> str:
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
    written: Route,
    root: Resource[VirtualServiceSpec],
    known: dict[str, Gateway],
    mesh: Mesh,
    report: Report,
) -> HttpRoute:
    spec, owner = written.spec, written.owner
    if spec.cors_policy is not None and any(match.match.asks_claims for match in spec.match):
        report.add(CORS_BY_CLAIMS, spec.at.at("corsPolicy"))
    filters = {type(config): config for config in (spec.fault, spec.cors_policy) if config is not None}
    return HttpRoute(
        name=spec.name or f"{owner.namespace}/{owner.name}/{written.place}",
        matches=tuple(_match(match, root.namespace, known, report) for match in spec.match),
        action=_action(spec, owner.namespace, mesh, report),
        origin=replace(owner.origin, source=spec.at.source),
        headers=spec.headers,
        filters=filters,
    )


def _action(spec: RouteSpec, namespace: str, mesh: Mesh, report: Report) -> Action:
    answer = spec.redirect or spec.direct_response
    if answer is not None:
        return answer
    return Forward(
        destinations=tuple(destination_of(each, len(spec.route), namespace, mesh, report) for each in spec.route),
        rewrite=spec.rewrite,
        timeout=spec.timeout,
        retry=spec.retries,
        mirrors=tuple(_mirrors(spec, namespace, mesh, report)),
    )


def _mirrors(spec: RouteSpec, namespace: str, mesh: Mesh, report: Report) -> Iterator[Mirror]:
    """Without a percentage every request is mirrored; with 0, none."""
    shares = ("mirrorPercentage", spec.mirror_percentage), ("mirrorPercent", spec.mirror_percent)
    given = [name for name, share in shares if share is not None]
    for name in given if spec.mirror is None else given[1:]:
        beside = "without mirror" if spec.mirror is None else "beside mirrorPercentage"
        report.add(WITHOUT_EFFECT, spec.at.key(name), name=name, beside=beside)
    percent = 100.0 if spec.mirror_percent is None else float(spec.mirror_percent)
    if spec.mirror_percentage is not None:
        percent = spec.mirror_percentage.value
    mirrored = [] if spec.mirror is None else [(spec.mirror, percent)]
    mirrored += [(each.destination, each.percentage.value if each.percentage else 100.0) for each in spec.mirrors]
    for destination, share in mirrored:
        found = _resolve(destination, namespace, mesh, report)
        if share:
            yield Mirror(found, share)


def _match(written: Match, namespace: str, known: dict[str, Gateway], report: Report) -> RouteMatch:
    if written.gateways is None:
        return written.match
    keys = (
        gateway_key(name, namespace, known, written.at.at("gateways", index), report)
        for index, name in enumerate(written.gateways)
    )
    return replace(written.match, gateways=tuple(dict.fromkeys(keys)))


def destination_of(written: WeightedSpec, among: int, namespace: str, mesh: Mesh, report: Report) -> Destination:
    found = _resolve(written.destination, namespace, mesh, report)
    return replace(found, weight=written.weight if among > 1 else 1, headers=written.headers)


def _resolve(spec: DestinationSpec, namespace: str, mesh: Mesh, report: Report) -> Destination:
    service = find_service(spec.host, namespace, mesh, spec.at.at("host"), report)
    if service is not None and spec.subset is not None and service.policy.subset(spec.subset) is None:
        near = hint(spec.subset, (subset.name for subset in service.policy.subsets))
        report.add(NOT_FOUND, spec.at.at("subset"), kind=f"subset of {service.host}", name=spec.subset, hint=near)
    written_port = spec.port.number if spec.port is not None else 0
    return Destination(
        host=full_host(spec.host, namespace, mesh.settings),
        port=_port(spec, service, report) if service is not None else written_port,
        subset=spec.subset,
    )


def _port(spec: DestinationSpec, service: Service, report: Report) -> int:
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


def _tell_hidden(written: Sequence[Route], routes: Sequence[HttpRoute], report: Report) -> None:
    """IST0130 for a route that nothing reaches, IST0131 for a single match of one."""
    earlier = Earlier()
    for each, route in zip(written, routes, strict=True):
        spec = each.spec
        hidden: list[tuple[Node, str]] = []
        matches = route.matches or (RouteMatch(),)
        for position, match in enumerate(matches):
            by = earlier.covering(match)
            if by is None:
                earlier.add(match, each.place)
            else:
                hidden.append((spec.match[position].at if spec.match else spec.at, by))
        if len(hidden) == len(matches):
            report.add(UNREACHABLE, spec.at, earlier=hidden[0][1])
            continue
        for at, by in hidden:
            report.add(INEFFECTIVE_MATCH, at, earlier=by)
