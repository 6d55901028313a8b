"""Servers of a Gateway that no VirtualService is bound to."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.analyze.check import Check, at
from isthmus.analyze.place import meet
from isthmus.diag import Code, Report, Severity
from isthmus.model.gateway import Gateway, Server
from isthmus.model.l4_route import L4Table
from isthmus.model.mesh import Mesh
from isthmus.model.route import RouteTable

UNUSED_SERVER = Code(
    "ISM5005",
    Severity.INFO,
    "A server of a Gateway without routes",
    "no VirtualService has routes for {hosts} at this gateway: port {port} {answer}",
    what="A server of a Gateway is open, and no VirtualService is bound to it.",
    why="Requests are answered with 404, connections closed; often the VirtualService names another gateway or host.",
    example="kind: Gateway   # edge\n---\nkind: VirtualService\nspec: {hosts: [shop.example.com]}   # no gateways",
    fix="Name the Gateway in the VirtualService's gateways, with a host that the server has; or close the server.",
)


def run(mesh: Mesh, report: Report) -> None:
    for gateway in mesh.gateways:
        requests = [table for table in mesh.routes if gateway.key in table.gateways]
        connections = [table for table in mesh.l4_routes if gateway.key in table.gateways]
        for server in gateway.servers:
            bound: Sequence[RouteTable | L4Table] = requests if server.is_http else connections
            if not server.https_redirect and not any(meet(server, table) for table in bound):
                _tell(gateway, server, report)


def _tell(gateway: Gateway, server: Server, report: Report) -> None:
    hosts = ", ".join(host.name for host in server.hosts)
    answer = "answers 404 to everything" if server.is_http else "closes every connection"
    report.add(UNUSED_SERVER, at(server.origin), hosts=hosts, port=server.port, answer=answer)


CHECK = Check("unused-server", (UNUSED_SERVER,), run)
