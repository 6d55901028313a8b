"""Where logins hold, and what about that place keeps people from logging in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.diag import Code, Place, Report, Severity
from isthmus.model.attachment import Attachment, TargetKind
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.gateway import Gateway
from isthmus.model.mesh import Mesh
from isthmus.model.oidc import OidcLogin
from isthmus.model.route import RouteTable

NO_TLS = Code(
    "ISM2430",
    Severity.WARNING,
    "A login where there is no TLS",
    "nobody can log in at {gateway}, port {port}: browsers keep a session's cookies over TLS alone",
    what="A login is offered by a server of a Gateway that takes plain HTTP and sends nobody to HTTPS.",
    why="A session's cookies are secure ones; a browser drops them there, and is sent to log in for ever.",
    example="servers: [{port: {number: 80, protocol: HTTP}, hosts: [shop.example.com]}]",
    fix="Offer the login on a server with TLS, and let the plain one redirect there (tls: {httpsRedirect: true}).",
)
SAME_PATHS = Code(
    "ISM2431",
    Severity.ERROR,
    "Two logins that share a path",
    "{other} has the path {path} at {host}, too: who comes back from one provider meets the other login",
    what="Two logins of one host have the same redirectPath or logoutPath.",
    why="What comes to that path is the business of one of them; the other's users never get in.",
    example="two policies for routes of one VirtualService, both with the redirectPath that nobody wrote",
    fix="Give each a redirectPath and a logoutPath of its own, and register the former at its provider.",
    stops=False,
)
ASKED_FOR_ALL_THE_SAME = Code(
    "ISM2432",
    Severity.WARNING,
    "A login that is said not to be required",
    "required: false has no effect beside oidc: a browser without a session is sent to log in",
    what="A policy with a login says that requests without credentials may pass.",
    why="Whether somebody would rather stay unknown cannot be told, so a login that is there is asked for.",
    example="required: false\nmethods: [{oidc: {...}}]",
    fix="Take required: false away; give the pages that are for everybody a route without the policy.",
)
NOT_AT_A_GATEWAY = Code(
    "ISM2433",
    Severity.WARNING,
    "A login that no gateway offers",
    "nobody can log in at {workload}: logins are at gateways; there requests without another credential are refused",
    what="A policy with a login holds for a workload.",
    why="Browsers do not come to workloads, and a session's cookies go no further than the gateway.",
    example="selector: {matchLabels: {app: orders}}\nmethods: [{oidc: {...}}]",
    fix="Attach the policy to the Gateway or the VirtualService (targetRefs).",
)
ANY_HOST = Code(
    "ISM2434",
    Severity.ERROR,
    "A login that could lead anywhere",
    "{gateway} takes any host, so a login there could lead back to any: 503 is its answer",
    what="Neither the Gateway nor its VirtualServices name a host, and the login names none either.",
    why="A login that leads back wherever a request says sends people, freshly logged in, to strangers.",
    example='hosts: ["*"]   # of the Gateway and of the VirtualService',
    fix="Name the hosts, or write allowedRedirectDomains.",
    stops=False,
)


def report_places(policies: Sequence[ClientAuthentication], mesh: Mesh, report: Report) -> None:
    """What is wrong with the places of all logins."""
    taken: dict[tuple[str, str], OidcLogin] = {}
    for policy in policies:
        for login in policy.oidc:
            at = Place(login.origin.source, login.origin.ref)
            if not policy.required:
                report.add(ASKED_FOR_ALL_THE_SAME, at)
            _report_workloads(policy.attachment, mesh, at, report)
            for gateway, tables in _gateways(policy.attachment, mesh):
                _report_gateway(login, gateway, tables, at, report)
                _report_paths(login, tables, taken, at, report)


def _report_workloads(attachment: Attachment, mesh: Mesh, at: Place, report: Report) -> None:
    scope = attachment.scope
    # A policy for a whole namespace says nothing of single workloads: gateways among them may be what is meant.
    if scope is None or not scope.labels:
        return
    found = (one for one in mesh.workloads if scope.selects(one.namespace, one.labels))
    first = next(found, None)
    if first is not None:
        report.add(NOT_AT_A_GATEWAY, at, workload=f"{first.namespace}/{first.name}")


def _report_gateway(
    login: OidcLogin, gateway: Gateway, tables: Sequence[RouteTable], at: Place, report: Report
) -> None:
    for server in gateway.servers:
        if server.is_http and server.tls is None and not server.https_redirect:
            report.add(NO_TLS, at, gateway=gateway.origin.ref, port=server.port)
    hosts = {host.name for server in gateway.servers for host in server.hosts}
    hosts |= {host for table in tables for host in table.hosts}
    if not login.redirect_domains and hosts <= {"*"}:
        report.add(ANY_HOST, at, gateway=gateway.origin.ref)


def _report_paths(
    login: OidcLogin,
    tables: Sequence[RouteTable],
    taken: dict[tuple[str, str], OidcLogin],
    at: Place,
    report: Report,
) -> None:
    for host in dict.fromkeys(host for table in tables for host in table.hosts):
        for path in (login.redirect_path, login.logout_path):
            other = taken.setdefault((host, path), login)
            if other.key != login.key:
                report.add(SAME_PATHS, at, other=other.origin.ref, path=path, host=host)


def _gateways(attachment: Attachment, mesh: Mesh) -> Iterator[tuple[Gateway, tuple[RouteTable, ...]]]:
    """Those where the policy holds, with the VirtualServices that it is about there."""
    for gateway in mesh.gateways:
        tables = tuple(table for table in mesh.routes if gateway.key in table.gateways)
        scope = attachment.scope
        if scope is not None:
            if scope.selects(gateway.namespace, dict(gateway.selector)):
                yield gateway, tables
            continue
        named = {target.key for target in attachment.targets if target.kind is TargetKind.VIRTUAL_SERVICE}
        if any(target.kind is TargetKind.GATEWAY and target.key == gateway.key for target in attachment.targets):
            yield gateway, tables
        elif own := tuple(table for table in tables if f"{table.namespace}/{table.name}" in named):
            yield gateway, own
