"""What is wrong with the lists and answers that were fetched, and what comes of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cryptography import x509

from isthmus.control.revocation import CrlDemand, Demands, StapleDemand, Statuses, in_force
from isthmus.diag import Code, Diagnostic, Origin, Place, Report, Severity
from isthmus.model.revocation import StaplePolicy

CRL_MISSING = Code(
    "ISM6200",
    Severity.ERROR,
    "No list of revoked client certificates",
    "the list of revoked certificates at {url} cannot be had ({reason}), and none is kept: {effect}",
    what="A distribution point that a ClientTrafficPolicy names has given no list that can be believed.",
    why="Without the list nobody can tell who is revoked. A certificate of a CA without a list is refused.",
    example="crl: {distributionPoints: ['http://ca.example/clients.crl']}   # answered 404",
    fix="Follow the reason: the URL, the network, or a list that the client CA has signed.",
    stops=False,
)
CRL_ENDING = Code(
    "ISM6201",
    Severity.WARNING,
    "A list of revoked client certificates is about to end",
    "the list of revoked certificates at {url} ends at {end}, and no newer one is published{reason}",
    what="Less than a quarter of the list's life is left, and the distribution point has no newer one.",
    why="When it has ended, every certificate of its CA is refused until a newer one comes.",
    example="(a CA whose job that publishes lists does not run any more)",
    fix="Have the CA publish its next list.",
)
CRL_ENDED = Code(
    "ISM6202",
    Severity.ERROR,
    "A list of revoked client certificates has ended",
    "the list of revoked certificates at {url} ended at {end}{reason}: every certificate of its CA is refused",
    what="The list's nextUpdate is over, and the distribution point has no newer one.",
    why="Who was revoked since then is not known, so nobody of that CA gets in.",
    example="(a distribution point that has been away for longer than its list lives)",
    fix="Have the CA publish its next list.",
    stops=False,
)
CA_WITHOUT_CRL = Code(
    "ISM6203",
    Severity.WARNING,
    "A client CA without a list of what it revoked",
    'no list of what the client CA "{authority}" revoked was fetched: {effect}',
    what="Some of a server's client CAs have a list, and this one has none.",
    why="Envoy refuses every chain with a CA that has no list, once there is any list at all.",
    example="crl: {distributionPoints: ['http://ca.example/one.crl']}   # and ca.crt holds a second CA",
    fix="Add the distribution point of that CA, or take it out of ca.crt. Where only its leaves count, set "
    "onlyVerifyLeafCertificate.",
)
STAPLE_MISSING = Code(
    "ISM6204",
    Severity.WARNING,
    "No OCSP answer to stand beside a certificate",
    'no OCSP answer can be stapled to the certificate in Secret "{name}" ({reason}): {effect}',
    what="ocspStapling, or the certificate itself, asks for an answer of its CA's responder, and there is none.",
    why="A client that insists on the answer goes away; with Must, or a must-staple certificate, so does everybody.",
    example="tls: {ocspStapling: Must}   # and the certificate names no responder",
    fix="Follow the reason. The chain in the Secret must have the issuer's certificate.",
)
STAPLE_ENDING = Code(
    "ISM6205",
    Severity.WARNING,
    "The OCSP answer beside a certificate is about to end",
    'the OCSP answer beside the certificate in Secret "{name}" ends at {end}, and there is no newer one{reason}',
    what="Less than a quarter of the answer's life is left, and the responder has given no newer one.",
    why="When it has ended, it is not stapled any more; with Strict or Must the certificate is not shown either.",
    example="(a responder that has been away for days)",
    fix="Look at the responder, and at the way to it.",
)

_FIRST = "not fetched yet"


def revocation_findings(wanted: Demands, statuses: Statuses) -> tuple[Diagnostic, ...]:
    report = Report()
    for crl in wanted.crls:
        for code, args in _of_lists(crl, statuses):
            report.add(code, _place(crl.origin), **args)
    for staple in wanted.staples:
        for code, args in _of_answer(staple, statuses):
            report.add(code, _place(staple.origin), **args)
    return tuple(report)


_Found = Iterator[tuple[Code, dict[str, Any]]]


def _of_lists(demand: CrlDemand, statuses: Statuses) -> _Found:
    lists = in_force(demand, statuses)
    for source in demand.sources:
        status = statuses.get(source)
        if status is None:
            continue
        if status.held is None:
            effect = "chains of its CA are refused" if lists else "no client certificate is taken"
            if status.error != _FIRST:
                yield CRL_MISSING, {"url": source.url, "reason": status.error or "", "effect": effect}
            continue
        told = {"url": source.url, "end": status.held.next_update.isoformat(), "reason": _because(status.error)}
        if status.ended:
            yield CRL_ENDED, told
        elif status.ending:
            yield CRL_ENDING, told
    if not demand.sources:
        yield (
            CRL_MISSING,
            {
                "url": "the client CAs' own distribution points",
                "reason": "their certificates name none",
                "effect": "no client certificate is taken",
            },
        )
    if lists:
        have = {held.issuer for held in lists}
        for authority in _without(x509.load_pem_x509_certificates(demand.authorities), have):
            effect = "what it issued itself is refused" if demand.only_leaf else "chains through it are refused"
            severity = Severity.INFO if demand.only_leaf else None
            name = authority.subject.rfc4514_string()
            yield CA_WITHOUT_CRL, {"authority": name, "effect": effect, "severity": severity}


def _without(authorities: Iterable[x509.Certificate], have: set[bytes]) -> Iterator[x509.Certificate]:
    return (one for one in authorities if one.subject.public_bytes() not in have)


def _of_answer(demand: StapleDemand, statuses: Statuses) -> _Found:
    status = statuses.get(demand.source) if demand.source is not None else None
    if status is None or status.held is None or status.ended:
        reason = demand.problem or (status.error if status is not None else _FIRST) or "the last one has ended"
        if reason != _FIRST:
            yield (
                STAPLE_MISSING,
                {
                    "name": demand.name,
                    "reason": reason,
                    "effect": _effect(demand, ended=status is not None and status.ended),
                },
            )
    elif status.ending:
        end = status.held.next_update.isoformat()
        yield STAPLE_ENDING, {"name": demand.name, "end": end, "reason": _because(status.error)}


def _effect(demand: StapleDemand, *, ended: bool) -> str:
    if demand.demanded:
        return "the certificate says itself that it is worth nothing without, and is not shown"
    closed = demand.policy is StaplePolicy.MUST or (ended and demand.policy is StaplePolicy.STRICT)
    return "the certificate is not shown" if closed else "the certificate is shown alone"


def _because(error: str | None) -> str:
    return f" ({error})" if error is not None and error != _FIRST else ""


def _place(origin: Origin) -> Place:
    return Place(origin.source, origin.ref)
