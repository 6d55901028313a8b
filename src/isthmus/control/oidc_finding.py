"""What is wrong with OpenID providers, as far as only asking them shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.diag import Code, Diagnostic, Place, Report, Severity
from isthmus.model.mesh import Mesh
from isthmus.model.oidc import Provider, logins_of

UNDISCOVERED = Code(
    "ISM7020",
    Severity.ERROR,
    "Nothing is known of a login's provider",
    "the endpoints of {issuer} cannot be discovered ({reason}): nobody can log in there, and 503 is the answer",
    what="The discovery document of a login's issuer cannot be had, or not be believed.",
    why="Users would be sent to, and the client's secret given to, whoever the document names.",
    example="(a document whose issuer is another one, or whose token_endpoint is http)",
    fix="Follow the reason: the URL, the network, the provider. Or write the endpoints yourself (oidc.endpoints).",
    stops=False,
)
REDISCOVERED = Code(
    "ISM7021",
    Severity.WARNING,
    "A login's provider that says nothing new",
    "the endpoints of {issuer} cannot be discovered again ({reason}): the last good ones stay",
    what="The discovery document of a login's issuer cannot be had any more, or not be believed as it is now.",
    why="If the provider has moved, logins will fail.",
    example="(a provider that is down)",
    fix="Follow the reason: the URL, the network, the provider.",
)


def provider_findings(mesh: Mesh, providers: Mapping[str, Provider]) -> tuple[Diagnostic, ...]:
    """One for each login whose provider was asked in vain."""
    report = Report()
    for login in logins_of(mesh.policies.clients):
        known = providers.get(login.issuer)
        if login.endpoints is not None or known is None or known.error is None:
            continue
        code = UNDISCOVERED if known.endpoints is None else REDISCOVERED
        report.add(code, Place(login.origin.source, login.origin.ref), issuer=login.issuer, reason=known.error)
    return tuple(report)
