"""What is wrong with OpenID providers, as far as only asking them shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.compile import Compiled
from isthmus.control.oidc import MOST_BYTES, client_secret
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
UNUSABLE_SECRET = Code(
    "ISM7022",
    Severity.ERROR,
    "A client secret that is none",
    'the value of "{key}" in Secret/{secret} is no client\'s secret (1 to {most} ASCII characters): nobody can log in '
    "there, and 503 is the answer",
    what="The Secret of a login has the key, and what stands there is empty, too long, or not ASCII.",
    why="The provider would refuse it.",
    example='stringData: {client-secret: "…"}   # a placeholder',
    fix="Write the secret as the provider gave it.",
    stops=False,
)


def secret_findings(compiled: Compiled | None) -> tuple[Diagnostic, ...]:
    """One for each login whose client's secret is there and cannot be used; one that is not there is IST0101."""
    report = Report()
    if compiled is None:
        return ()
    for login in logins_of(compiled.mesh.policies.clients):
        known = compiled.mesh.secrets.get(login.secret)
        if known is None or login.secret_key not in known.keys:
            continue
        if client_secret(compiled, login.secret, login.secret_key) is None:
            place = Place(login.origin.source, login.origin.ref)
            report.add(UNUSABLE_SECRET, place, key=login.secret_key, secret=login.secret, most=MOST_BYTES)
    return tuple(report)


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
