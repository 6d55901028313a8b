"""What a ClientTrafficPolicy asks that goes with something else of its Gateway, or not: reported, and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.client_traffic_policy.spec import ClientTrafficPolicySpec
from isthmus.kinds.gateway import share_proxies
from isthmus.model.client_headers import USUAL_HEADERS
from isthmus.model.gateway import Gateway, Server
from isthmus.model.mesh import Mesh

NEVER_RESUMED = Code(
    "ISM2260",
    Severity.WARNING,
    "Sessions where clients are asked for certificates",
    "tls.session has no effect on port {port} of {gateway}: a server that asks for certificates resumes no session",
    what="The policy wants TLS sessions resumed on a server that asks clients for certificates.",
    why="A resumed session is not validated again: a certificate that was revoked since would still be good.",
    example="tls: {session: {resumption: {stateless: {}}}}   # for a server of mode MUTUAL",
    fix="Give the policy the sectionName of a server of mode SIMPLE, or take session out.",
)
HEALTH_PORT_TAKEN = Code(
    "ISM2261",
    Severity.ERROR,
    "A health check on a server's port",
    "port {port} is opened by {other} on the same proxies: there is no health check on it",
    what="The port of healthCheck is one that a server of the same gateway proxies opens.",
    why="Who has no certificate must not be answered on a port that asks for one.",
    example="healthCheck: {port: 443, path: /healthz}   # beside a server of port 443",
    fix="Give healthCheck a port of its own.",
    stops=False,
)
NO_CERTIFICATE = Code(
    "ISM2262",
    Severity.WARNING,
    "Headers about certificates that nobody is asked for",
    "headers has no effect at {target}: none of the servers that the policy is for asks for client certificates",
    what="The policy sets headers about the client's certificate, and its servers are SIMPLE or in plaintext.",
    why="A program that waits for the header never gets one.",
    example="headers: {clientCertificate: {name: X-Client-Cert}}   # for a server of mode SIMPLE",
    fix="Give the server mode MUTUAL or OPTIONAL_MUTUAL, or take headers out.",
)

Policy = Resource[ClientTrafficPolicySpec]
Uses = Mapping[str, Policy]
"""The policies that hold at a Gateway's servers, by port name."""


def without_what_cannot_be(gateway: Gateway, uses: Uses, mesh: Mesh, report: Report) -> Gateway:
    """``gateway`` but for what goes with nothing; each policy is told once."""
    policies = {policy.origin: policy for policy in uses.values()}
    unchecked: set[int] = set()
    for policy in policies.values():
        held = [server for server in gateway.servers if uses.get(server.port_name) is policy]
        _tell(policy, gateway, held, report)
        check = policy.spec.health_check
        other = None if check is None else _opener(check.port, gateway, mesh)
        if check is not None and other is not None:
            report.add(HEALTH_PORT_TAKEN, policy.spec.at.at("healthCheck", "port"), port=check.port, other=other)
            unchecked.add(check.port)
    if not unchecked:
        return gateway
    return replace(gateway, servers=tuple(_unchecked(server, unchecked) for server in gateway.servers))


def _tell(policy: Policy, gateway: Gateway, held: Sequence[Server], report: Report) -> None:
    spec = policy.spec
    asking = [server for server in held if server.tls is not None and server.tls.mode.asks]
    resumption = spec.tls.session if spec.tls is not None else None
    if resumption is not None and (resumption.stateless or resumption.stateful):
        for server in asking:
            place = spec.at.at("tls", "session")
            report.add(NEVER_RESUMED, place, port=server.port, gateway=gateway.origin.ref)
    if spec.headers not in (None, USUAL_HEADERS) and held and not asking:
        report.add(NO_CERTIFICATE, spec.at.at("headers"), target=gateway.origin.ref)


def _opener(port: int, gateway: Gateway, mesh: Mesh) -> object | None:
    """Whose server opens ``port`` on any proxy of ``gateway``'s, or is kept from it."""
    for other in mesh.gateways:
        declared = (*(server.port for server in other.servers), *(server.port for server in other.closed))
        if port in declared and share_proxies(gateway, other, mesh):
            return other.origin.ref
    return None


def _unchecked(server: Server, ports: set[int]) -> Server:
    check = server.client_traffic.health_check
    if check is None or check.port not in ports:
        return server
    return replace(server, client_traffic=replace(server.client_traffic, health_check=None))
