"""Certificates and lists of revoked ones whose time has not come, or is over."""

from __future__ import annotations

from datetime import datetime

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.lifetime import Lasting, Lifetime
from isthmus.model.mesh import Mesh

NOT_VALID_NOW = Code(
    "ISM5060",
    Severity.ERROR,
    "A certificate that is not valid now",
    "the {what} of {name} {problem}: {effect}",
    what="A certificate in a Secret has expired, or is not valid yet.",
    why="Clients do not connect to a server with such a certificate, and no certificate of such a CA is let in.",
    example="tls.crt: a certificate that ended yesterday",
    fix="Renew it. If it is new, look at this machine's clock.",
    stops=False,
)
OVERDUE_LIST = Code(
    "ISM5061",
    Severity.ERROR,
    "A list of revoked certificates that is overdue",
    "the {what} of {name} {problem}: {effect}",
    what="The time at which a list (CRL) was to be replaced by the next one is past, or its own has not come.",
    why="Who has been revoked since is not known, so Envoy refuses every client of that CA.",
    example="ca.crl: a list whose nextUpdate was yesterday",
    fix="Put the CA's current list there, and renew it before its nextUpdate.",
    stops=False,
)

_EFFECTS = {
    Lasting.CERTIFICATE: "who verifies it refuses it",
    Lasting.CA: "no certificate of this CA is let in",
    Lasting.CRL: "every client of this CA is refused",
}


def run(mesh: Mesh, report: Report, now: datetime) -> None:
    for secret in mesh.secrets.values():
        for lifetime in secret.lifetimes:
            problem = _problem(lifetime, now)
            if problem is not None:
                code = OVERDUE_LIST if lifetime.of is Lasting.CRL else NOT_VALID_NOW
                effect = _EFFECTS[lifetime.of]
                place = at(lifetime.origin)
                report.add(code, place, what=lifetime.of.value, name=lifetime.name, problem=problem, effect=effect)


def _problem(lifetime: Lifetime, now: datetime) -> str | None:
    if now >= lifetime.ends:
        word = "was to be replaced by" if lifetime.of is Lasting.CRL else "expired at"
        return f"{word} {lifetime.ends:%Y-%m-%d %H:%M} UTC"
    return f"is not valid before {lifetime.begins:%Y-%m-%d %H:%M} UTC" if now < lifetime.begins else None


CHECK = Check("lifetime", (NOT_VALID_NOW, OVERDUE_LIST), run_at=run)
