"""Servers that share a port in plaintext, and whose clients are to be told of refusals in different ways."""

from __future__ import annotations

from itertools import combinations

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.gateway import share_proxies
from isthmus.model.gateway import Gateway, Server
from isthmus.model.mesh import Mesh

DIFFERENT_ERRORS = Code(
    "ISM5130",
    Severity.WARNING,
    "Servers of one port that answer refusals differently",
    "errors has no effect on port {port}: {other} has the same port in plaintext, and other errors or none",
    what="Two servers open the same port without TLS on the same proxies, and their policies say different `errors`.",
    why="Behind a plaintext port there is one connection manager: it answers for all hosts alike, and tells the least.",
    example="two Gateways with port 80, and errors: {format: PROBLEM_JSON, reason: true} for one of them",
    fix="Say the same for both, or give one of them another port, or TLS.",
)


def run(mesh: Mesh, report: Report) -> None:
    """Told at the policies that have no effect, once each."""
    told = set()
    for (gateway, server), (other, beside) in combinations(_plain(mesh), 2):
        mine, theirs = server.client_traffic, beside.client_traffic
        if server.port != beside.port or mine.problems == theirs.problems or not share_proxies(gateway, other, mesh):
            continue
        for policy, meant in ((mine, other), (theirs, gateway)):
            if policy.problems is not None and policy.origin is not None and policy.origin not in told:
                told.add(policy.origin)
                report.add(DIFFERENT_ERRORS, at(policy.origin), port=server.port, other=meant.origin.ref)


def _plain(mesh: Mesh) -> list[tuple[Gateway, Server]]:
    return [
        (gateway, server)
        for gateway in mesh.gateways
        for server in gateway.servers
        if server.is_http and server.tls is None and not server.https_redirect
    ]


CHECK = Check("error-format", (DIFFERENT_ERRORS,), run)
