"""Methods of a ClientAuthentication that nobody can use where it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.place import Places
from isthmus.analyze.target import Target
from isthmus.diag import Code, Report, Severity
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.mesh import Mesh

ISSUER_WITHOUT_KEYS = Code(
    "ISM5100",
    Severity.WARNING,
    "An issuer whose keys nobody tells",
    "no RequestAuthentication at {names} has the issuer {issuer}: all of its tokens are refused",
    what="A ClientAuthentication takes tokens of an issuer of which no RequestAuthentication in force there speaks.",
    why="Where an issuer's keys are, and where its tokens stand in a request, RequestAuthentications say.",
    example="methods: [{jwt: {issuers: [https://auth.example.com]}}]   # the rule says https://auth.example.com/",
    fix="Add a RequestAuthentication that selects the gateway (or workload), or correct the issuer: it must be the "
    "same to the letter.",
)
NO_CLIENT_CERTIFICATES = Code(
    "ISM5101",
    Severity.WARNING,
    "Client certificates where no client is asked for one",
    "{names} asks no client for a certificate: {method} can be met by nobody there",
    what="A ClientAuthentication takes certificates, or tokens bound to one, at a server that does not ask for any.",
    why="Only a Gateway's server whose TLS is MUTUAL or OPTIONAL_MUTUAL gets to see its clients' certificates. What a "
    "proxy before the gateway says of them is not believed.",
    example="methods: [{certificate: {}}]   # at servers: [{tls: {mode: SIMPLE, ...}}]",
    fix="Give the server the mode OPTIONAL_MUTUAL (or MUTUAL) and the CA of the clients.",
)


def run(mesh: Mesh, report: Report) -> None:
    if not mesh.policies.clients:
        return
    places = Places(mesh)
    for policy in mesh.policies.clients:
        _look_for_issuers(policy, places.concerned(policy.attachment), mesh, report)
        method = _needing_certificate(policy)
        names = list(_unasking(policy, places, mesh)) if method is not None else []
        if names:
            report.add(NO_CLIENT_CERTIFICATES, at(policy.origin), names=listed(names), method=method)


def _look_for_issuers(policy: ClientAuthentication, where: Sequence[Target], mesh: Mesh, report: Report) -> None:
    for issuer in dict.fromkeys(issuer for method in policy.jwt for issuer in method.issuers):
        rules = [one for one in mesh.policies.request if any(rule.issuer == issuer for rule in one.rules)]
        names = [target.key for target in where if not any(target.within(one.scope) for one in rules)]
        if names:
            report.add(ISSUER_WITHOUT_KEYS, at(policy.origin), names=listed(names), issuer=issuer)


def _needing_certificate(policy: ClientAuthentication) -> str | None:
    if policy.certificates:
        return "certificate"
    bound = any(method.bound for method in policy.jwt) or any(method.bound for method in policy.introspection)
    return "boundToCertificate" if bound else None


def _unasking(policy: ClientAuthentication, places: Places, mesh: Mesh) -> Iterator[str]:
    """The servers that it holds at and that ask for no certificate."""
    asking = {
        (gateway.key, server.port_name)
        for gateway in mesh.gateways
        for server in gateway.servers
        if server.tls is not None and server.tls.mode.asks
    }
    for place in places.of("clients", policy):
        if place.route is not None and (place.route.gateway, place.route.server) not in asking:
            yield f"{place.route.gateway} {place.route.server}"


CHECK = Check("client-method", (ISSUER_WITHOUT_KEYS, NO_CLIENT_CERTIFICATES), run)
