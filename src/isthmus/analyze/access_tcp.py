"""Policies that close ports of plain TCP, for they speak of requests alone."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.place import Places
from isthmus.diag import Code, Report, Severity
from isthmus.model.attachment import Attached
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
    places = Places(mesh)
    for kind in CLOSING_KINDS:
        for policy in getattr(mesh.policies, kind):
            closed = [*_ports(kind, policy, places), *_servers(kind, policy, places)] if closes_tcp(policy) else []
            if closed:
                report.add(ACCESS_CLOSES_TCP, at(policy.origin), names=listed(closed))


def _ports(kind: str, policy: Attached, places: Places) -> Iterator[str]:
    for place in places.of(kind, policy):
        if place.route is None:
            ports = place.target.ports.items()
            yield from (f"{place.target.key} port {number}" for number, one in ports if not one.is_http)


def _servers(kind: str, policy: Attached, places: Places) -> Iterator[str]:
    """Servers of gateways whose connections go by a VirtualService."""
    for place in places.of_connections(kind, policy):
        assert place.route is not None
        yield f"{place.route.gateway} {place.route.server}"


CHECK = Check("access-tcp", (ACCESS_CLOSES_TCP,), run)
