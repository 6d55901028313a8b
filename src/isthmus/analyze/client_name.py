"""Names of clients' certificates that look like patterns and are compared as they are."""

from __future__ import annotations

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.client_traffic import SanType
from isthmus.model.gateway import Server
from isthmus.model.match import Exact
from isthmus.model.mesh import Mesh

LITERAL_STAR = Code(
    "ISM5062",
    Severity.WARNING,
    "A name with a star that is no pattern",
    'port {port}: "{name}" lets in a certificate that has "{name}" itself as its name, and no host of {domain}',
    what="A name that clients' certificates must have begins with a star, where names are compared as they are.",
    why='A certificate for billing.internal.corp is refused. One for "*.internal.corp" is let in, whoever holds it.',
    example='subjectAltNames: ["*.internal.corp"]',
    fix="In a ClientTrafficPolicy, write clientValidation.subjectAltNames.dnsNames: "
    '[{wildcard: "*.internal.corp"}] for the hosts of one domain; list them with exact otherwise.',
)


def run(mesh: Mesh, report: Report) -> None:
    for gateway in mesh.gateways:
        for server in gateway.servers:
            for name in _literal_stars(server):
                policy = server.client_traffic
                own = policy.validation is not None and bool(policy.validation.sans)
                origin = policy.origin if own and policy.origin is not None else server.origin
                report.add(LITERAL_STAR, at(origin), port=server.port, name=name, domain=name.removeprefix("*."))


def _literal_stars(server: Server) -> dict[str, None]:
    sans = server.tls.validation.sans if server.tls is not None else ()
    exact = ((san.type, san.match) for san in sans)
    return {
        match.value: None
        for of, match in exact
        if of is SanType.DNS and isinstance(match, Exact) and match.value.startswith("*.")
    }


CHECK = Check("client-name", (LITERAL_STAR,), run)
