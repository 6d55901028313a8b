from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.control.revocation import Statuses
from isthmus.control.revocation_finding import (
    CA_WITHOUT_CRL,
    CRL_ENDED,
    CRL_ENDING,
    CRL_MISSING,
    STAPLE_ENDING,
    STAPLE_MISSING,
    revocation_findings,
)
from isthmus.diag import Severity
from isthmus.revocation.server import SourceStatus
from isthmus.revocation.source import Source
from tests.kinds.credential import secret

from .making import plane_of
from .revoking import GATEWAY, OTHER, ROOT, SILENT, crl, fresh, held, plane, secrets, staple, wanted


def codes(policy: str, status: object = None, leaf: object = None) -> dict[str, str]:
    """Messages by code. ``status``: of the one source."""
    demands = wanted(plane(policy) if leaf is None else plane(policy, leaf=leaf))  # type: ignore[arg-type]
    statuses: Statuses = {}
    for source in demands.sources:
        statuses = {source: status(source) if callable(status) else status}  # type: ignore[dict-item]
    return {found.code.id: found.message for found in revocation_findings(demands, statuses)}


def ended(source: Source) -> SourceStatus:
    return replace(fresh(held(source)), ended=True, ending=True, error="status 503")


def ending(source: Source) -> SourceStatus:
    return replace(fresh(held(source)), ending=True)


def test_before_the_first_fetch_nothing_is_said() -> None:
    assert codes(crl(), SourceStatus(None, "not fetched yet")) == {}
    assert codes(staple("Must"), SourceStatus(None, "not fetched yet")) == {}


def test_a_list_that_does_not_come() -> None:
    [message] = codes(crl(), SourceStatus(None, "status 404")).values()
    assert "status 404" in message
    assert "no client certificate is taken" in message
    assert codes(crl(), SourceStatus(None, "status 404")).keys() == {CRL_MISSING.id} == {"ISM6200"}


def test_cas_that_name_no_distribution_point() -> None:
    texts = [secrets()[0], secret("clients", kind="Opaque", ca_crt=ROOT.pem), secrets()[2]]
    demands = wanted(plane_of(GATEWAY, *texts, crl("fromCertificates: true")))
    [found] = revocation_findings(demands, {})
    assert (found.code, "name none" in found.message) == (CRL_MISSING, True)


@pytest.mark.parametrize(("status", "code"), [(ending, CRL_ENDING), (ended, CRL_ENDED)])
def test_a_list_that_ends(status: object, code: object) -> None:
    found = codes(crl(), status)
    assert found.keys() == {code.id, CA_WITHOUT_CRL.id}  # type: ignore[attr-defined]
    assert "2026-01-02T04:00:00+00:00" in found[code.id]  # type: ignore[attr-defined]


def test_a_ca_without_a_list() -> None:
    message = codes(crl(), lambda source: fresh(held(source)))[CA_WITHOUT_CRL.id]
    assert 'client CA "CN=other"' in message
    assert "chains through it are refused" in message
    demands = wanted(plane(crl("distributionPoints: ['http://ca.example/x'], onlyVerifyLeafCertificate: true")))
    [source] = demands.sources
    [found] = revocation_findings(demands, {source: fresh(held(source, name=OTHER))})
    assert (found.severity, "issued itself" in found.message) == (Severity.INFO, True)


@pytest.mark.parametrize(
    ("how", "status", "effect"),
    [
        ("Lenient", SourceStatus(None, "down"), "shown alone"),
        ("Strict", SourceStatus(None, "down"), "shown alone"),
        ("Must", SourceStatus(None, "down"), "is not shown"),
        ("Lenient", ended, "shown alone"),
        ("Strict", ended, "is not shown"),
    ],
)
def test_an_answer_that_does_not_come(how: str, status: object, effect: str) -> None:
    found = codes(staple(how), status)
    assert found.keys() == {STAPLE_MISSING.id}
    assert found[STAPLE_MISSING.id].endswith(effect)


def test_an_answer_that_ends_and_one_that_nobody_can_give() -> None:
    assert codes(staple("Must"), ending).keys() == {STAPLE_ENDING.id}
    assert "names no OCSP responder" in codes(staple("Must"), leaf=SILENT)[STAPLE_MISSING.id]
