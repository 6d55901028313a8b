"""Destinations that only their caller can find: services of resolution NONE, from where no caller names a host."""

from __future__ import annotations

from isthmus.diag import Code, Origin, Place, Report, Severity
from isthmus.model.cluster import Resolution
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH, Destination, Forward

NOBODY_SAYS_WHERE = Code(
    "ISM2164",
    Severity.ERROR,
    "A destination that only its caller could find",
    '"{host}" has resolution NONE, which goes where the caller itself says: {where} nobody says so, and it answers 503',
    what="A route of a gateway, or an upstream of a LocalWorkload, leads to a ServiceEntry of resolution NONE.",
    why="NONE means the address that the calling program chose. A request from outside must not choose one.",
    example="kind: ServiceEntry\nspec: {hosts: [api.example.com], ports: [...]}   # no resolution: NONE",
    fix="Give the ServiceEntry resolution: DNS, or STATIC with endpoints.",
    stops=False,
)


def tell_of_gateway_routes(mesh: Mesh, report: Report) -> None:
    for table in mesh.routes:
        if table.gateways != (MESH,):
            for route in table.routes:
                if isinstance(route.action, Forward):
                    _tell(route.action.targets, route.origin, mesh, report)
    for connections in mesh.l4_routes:
        if connections.gateways != (MESH,):
            for one in (*connections.tcp, *connections.tls):
                _tell(one.destinations, one.origin, mesh, report)


def _tell(destinations: tuple[Destination, ...], origin: Origin, mesh: Mesh, report: Report) -> None:
    for destination in destinations:
        service = mesh.services.get(destination.host)
        if service is not None and service.resolution is Resolution.NONE:
            at = Place(origin.source, origin.ref)
            report.add(NOBODY_SAYS_WHERE, at, host=destination.host, where="at a gateway")
