"""Issuers whose keys will not be fetched, because anybody on the way could replace them."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from isthmus.analyze.check import Check, at
from isthmus.diag import Code, Report, Severity
from isthmus.model.mesh import Mesh

KEYS_NOT_FETCHED = Code(
    "ISM5007",
    Severity.ERROR,
    "Keys that are not fetched",
    'the keys of "{issuer}" are not fetched{where}: {reason}',
    what="Where an issuer's keys are to come from is neither https nor, over http, this machine itself.",
    why="Whoever stands in the way of plain http hands out keys of their own. Without keys every token is refused.",
    example="jwtRules:\n  - {issuer: https://auth.example.com, jwksUri: http://auth.example.com/jwks}",
    fix="Write an https URL, put the keys into jwks, or give a file with --jwks ISSUER=FILE.",
    stops=False,
)


def run(mesh: Mesh, report: Report) -> None:
    for policy in mesh.policies.request:
        for rule in policy.rules:
            reason = None if rule.jwks is not None else _problem(rule.jwks_uri or rule.issuer)
            if reason is not None:
                where = f" from {rule.jwks_uri}" if rule.jwks_uri else ""
                report.add(KEYS_NOT_FETCHED, at(rule.origin), issuer=rule.issuer, where=where, reason=reason)


def _problem(url: str) -> str | None:
    """Why keys, or what leads to them (OIDC discovery on the issuer), do not come from ``url``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "it is not a URL"
    if parts.scheme == "https" and parts.hostname:
        return None
    if parts.scheme == "http" and parts.hostname:
        return None if _is_this_machine(parts.hostname) else "they come over https only"
    return "without jwksUri and jwks, the issuer must be a URL to discover them by"


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


CHECK = Check("jwks-uri", (KEYS_NOT_FETCHED,), run)
