"""Methods of a ClientAuthentication that nobody can use where it holds."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.analyze.target import Target, targets
from isthmus.diag import Code, Report, Severity
from isthmus.model.attachment import Target as Named
from isthmus.model.attachment import TargetKind
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.gateway import Gateway, Server, narrower_host
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Role

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
    known = targets(mesh)
    for policy in mesh.policies.clients:
        _look_for_issuers(policy, [each for each in known if concerns(policy, each, mesh)], mesh, report)
        method = _needing_certificate(policy)
        if method is not None:
            names = [f"{gateway.key} {server.port_name}" for gateway, server in _unasking(policy, mesh)]
            if names:
                report.add(NO_CLIENT_CERTIFICATES, at(policy.origin), names=listed(names), method=method)


def concerns(policy: ClientAuthentication, target: Target, mesh: Mesh) -> bool:
    """Whether the policy is about what ``target`` does, or about any route of it."""
    if policy.attachment.scope is not None:
        return target.within(policy.attachment.scope)
    if not target.gateway:
        return False
    carried = {
        gateway.key
        for proxy in mesh.proxies
        if proxy.role is Role.GATEWAY and (proxy.namespace, proxy.name) == (target.namespace, target.name)
        for gateway in mesh.gateways_of(proxy)
    }
    return any(gateway in carried for named in policy.attachment.targets for gateway in _gateways(named, mesh))


def _gateways(named: Named, mesh: Mesh) -> Iterator[str]:
    if named.kind is TargetKind.GATEWAY:
        yield named.key
        return
    for table in mesh.routes:
        if f"{table.namespace}/{table.name}" == named.key:
            yield from table.gateways


def _look_for_issuers(policy: ClientAuthentication, where: list[Target], mesh: Mesh, report: Report) -> None:
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


def _unasking(policy: ClientAuthentication, mesh: Mesh) -> Iterator[tuple[Gateway, Server]]:
    """The servers that it holds at, of those that it names, and that ask for no certificate."""
    for named in policy.attachment.targets:
        gateways = set(_gateways(named, mesh))
        hosts = [
            host for table in mesh.routes if f"{table.namespace}/{table.name}" == named.key for host in table.hosts
        ]
        for gateway in mesh.gateways:
            if gateway.key not in gateways:
                continue
            for server in gateway.servers:
                asks = server.tls is not None and server.tls.mode.asks
                if server.is_http and not server.https_redirect and not asks and _holds_at(named, server, hosts):
                    yield gateway, server


def _holds_at(named: Named, server: Server, hosts: list[str]) -> bool:
    if named.kind is TargetKind.GATEWAY:
        return named.section in (None, server.port_name)
    return any(narrower_host(own.name, host) is not None for own in server.hosts for host in hosts)


CHECK = Check("client-method", (ISSUER_WITHOUT_KEYS, NO_CLIENT_CERTIFICATES), run)
