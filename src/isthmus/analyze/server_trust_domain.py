"""Names of servers, by SPIFFE ID, that nobody here may prove."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.analyze.check import Check, at, listed
from isthmus.diag import Code, Origin, Report, Severity
from isthmus.model.mesh import Mesh

SEVERAL_TRUST_DOMAINS = Code(
    "ISM5072",
    Severity.WARNING,
    "Servers of several trust domains in one list",
    "subjectAltNames of {host} are of several trust domains ({names}): every connection is refused",
    what="subjectAltNames of a ServiceEntry or a DestinationRule name SPIFFE IDs of more than one trust domain.",
    why="A server is validated by the roots of its own trust domain alone. With those of several at once, either could "
    "name a server of the other.",
    example="subjectAltNames: [spiffe://td1/ns/a/sa/b, spiffe://td2/ns/a/sa/b]",
    fix="A service for each of the trust domains, and a VirtualService that divides the requests.",
)
UNKNOWN_TRUST_DOMAIN = Code(
    "ISM5073",
    Severity.WARNING,
    "A server of a trust domain that is not federated",
    'subjectAltNames of {host} are of the trust domain "{name}", which nobody federated with: every connection is '
    "refused",
    what="subjectAltNames name SPIFFE IDs of a trust domain that is neither the mesh's nor federated.",
    why="The mesh has no roots by which such a server could prove its name.",
    example="subjectAltNames: [spiffe://partner.example/ns/a/sa/b]   # and no FederatedTrustDomain partner.example",
    fix="Add a FederatedTrustDomain, or correct the name.",
)


def run(mesh: Mesh, report: Report) -> None:
    for host, origin, names in _expected(mesh):
        spiffe = [name for name in names if name.startswith("spiffe://")]
        if not spiffe:
            continue
        domains = mesh.trust_domains
        authority = domains.authority_of(spiffe)
        if authority is None:
            found = dict.fromkeys(name.removeprefix("spiffe://").partition("/")[0] for name in spiffe)
            report.add(SEVERAL_TRUST_DOMAINS, at(origin), host=host, names=listed(found))
        elif authority not in (domains.own[0], *domains.federated):
            report.add(UNKNOWN_TRUST_DOMAIN, at(origin), host=host, name=authority)


def _expected(mesh: Mesh) -> Iterator[tuple[str, Origin, tuple[str, ...]]]:
    """Every list of names that servers are to have in mutual TLS of the mesh."""
    for service in mesh.services.values():
        if service.subject_alt_names:
            yield service.host, service.origin, service.subject_alt_names
        for leveled in service.policy.leveled:
            for policy in (leveled.everywhere, *leveled.ports.values()):
                tls = policy.tls
                if tls is not None and tls.subject_alt_names and not tls.mode.is_origination:
                    yield service.host, tls.origin or service.origin, tls.subject_alt_names


CHECK = Check("server-trust-domain", (SEVERAL_TRUST_DOMAINS, UNKNOWN_TRUST_DOMAIN), run)
