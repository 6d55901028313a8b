"""``failedHandshakes`` of a ClientTrafficPolicy where it does nothing, or not what it says."""

from __future__ import annotations

from collections import defaultdict

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Origin, Report, Severity
from isthmus.model.gateway import Server
from isthmus.model.mesh import Mesh

NO_HANDSHAKES = Code(
    "ISM5070",
    Severity.WARNING,
    "failedHandshakes where no TLS ends",
    "failedHandshakes has no effect: none of the servers that the policy is for ends TLS",
    what="A ClientTrafficPolicy shuts out addresses whose handshakes fail, at servers that make none.",
    why="Plaintext has no handshake, and one that is passed through is another's to judge: nobody is shut out.",
    example="targetRefs: [{kind: Gateway, name: edge, sectionName: http}]\nconnection: {failedHandshakes: {}}",
    fix="Give the policy the sectionName of a server with TLS, or none.",
)
TWO_BACK_OFFS = Code(
    "ISM5071",
    Severity.WARNING,
    "Two failedHandshakes on one port",
    "on port {port} the failedHandshakes of {other} holds, for every server: this one has no effect",
    what="Servers of one port of a gateway have different failedHandshakes.",
    why="Whom a client wants is not known yet where it is shut out: a port has one setting, that of its first server.",
    example="two policies, each with a sectionName of port 443 and another threshold",
    fix="Say it in one policy, for the Gateway as a whole.",
)


def run(mesh: Mesh, report: Report) -> None:
    by_policy: dict[Origin, list[Server]] = defaultdict(list)
    for gateway in mesh.gateways:
        for server in gateway.servers:
            traffic = server.client_traffic
            if traffic.failed_handshakes is not None and traffic.origin is not None:
                by_policy[traffic.origin].append(server)
    for policy, servers in by_policy.items():
        if all(server.tls is None for server in servers):
            report.add(NO_HANDSHAKES, at(policy))
    told: set[Origin] = set()
    for proxy in mesh.proxies:
        first: dict[int, Server] = {}
        for server in (server for gateway in mesh.gateways_of(proxy) for server in gateway.servers):
            traffic = server.client_traffic
            if server.tls is None or traffic.failed_handshakes is None or traffic.origin is None:
                continue
            before = first.setdefault(server.port, server).client_traffic
            if before.failed_handshakes != traffic.failed_handshakes and traffic.origin not in told:
                told.add(traffic.origin)
                other = before.origin.ref if before.origin is not None else ""
                report.add(TWO_BACK_OFFS, at(traffic.origin), port=server.port, other=other)


CHECK = Check("failed-handshakes", (NO_HANDSHAKES, TWO_BACK_OFFS), run)
