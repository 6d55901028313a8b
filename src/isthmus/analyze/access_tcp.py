"""Policies that close ports of plain TCP, for they speak of requests alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import Target, targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.attachment import Attachment, RoutePlace
from isthmus.model.closed_tcp import CLOSING_KINDS, closes_tcp
from isthmus.model.mesh import Mesh

ACCESS_CLOSES_TCP = Code(
    "ISM5081",
    Severity.WARNING,
    "A policy closes TCP ports",
    "this policy speaks of requests alone: it closes the plain TCP at {names}",
    what="An AccessPolicy, RegoPolicy, or ClientAuthentication that requires a credential holds where plain TCP is.",
    why="They speak of methods, paths, tokens and keys. A connection has none of these; to let it pass would be a way "
    "around the policy.",
    example="spec: {selector: {matchLabels: {app: database}}, rules: [...]}   # port 5432 is plain TCP",
    fix="Narrow the selector, or name the port's protocol if it is HTTP; for TCP write an AuthorizationPolicy.",
)


def run(mesh: Mesh, report: Report) -> None:
    known = targets(mesh)
    for kind in CLOSING_KINDS:
        for policy in getattr(mesh.policies, kind):
            closed = [*_ports(policy.attachment, known), *_servers(policy.attachment, mesh)]
            if closed and closes_tcp(policy):
                report.add(ACCESS_CLOSES_TCP, at(policy.origin), names=listed(closed))


def _ports(attachment: Attachment, known: Iterable[Target]) -> Iterator[str]:
    scope = attachment.scope
    for target in known:
        if scope is not None and target.within(scope):
            yield from (f"{target.key} port {number}" for number, one in target.ports.items() if not one.is_http)


def _servers(attachment: Attachment, mesh: Mesh) -> Iterator[str]:
    """Servers of gateways whose connections go by a VirtualService; the policy names either."""
    for gateway in mesh.gateways:
        tables = [table for table in mesh.l4_routes if gateway.key in table.gateways]
        for server in gateway.servers:
            places = (RoutePlace(gateway.key, server.port_name, f"{one.namespace}/{one.name}") for one in tables)
            if not server.is_http and any(attachment.at_route(place) is not None for place in places):
                yield f"{gateway.key} {server.port_name}"


CHECK = Check("access-tcp", (ACCESS_CLOSES_TCP,), run)
