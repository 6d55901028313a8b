from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from isthmus.control.revocation import Demands, held_back, in_force, learnt_crls, learnt_staples
from isthmus.model.revocation import CrlPoints
from isthmus.revocation.crl import nobodys_crl
from isthmus.revocation.source import CrlSource, StapleSource
from tests.real.pki import Authority
from tests.real.revocation_server import answered_at
from tests.revocation.making import MUST_STAPLE
from tests.revocation.making import crl as signed

from .revoking import HOUR, LISTED, NOW, OTHER, OWN, RESPONDER, ROOT, SILENT, crl, fresh, held, plane, staple, wanted

CA = "credential-ca:shop/clients"
POINTS = CrlPoints((LISTED,))


@pytest.mark.parametrize(
    ("points", "urls"),
    [
        (f"distributionPoints: ['{LISTED}', '{LISTED}']", [LISTED]),
        ("fromCertificates: true", [OWN]),
        (f"distributionPoints: ['{LISTED}'], fromCertificates: true", [LISTED, OWN]),
    ],
)
def test_lists_are_fetched_where_the_policy_and_the_cas_say(points: str, urls: list[str]) -> None:
    [demand] = wanted(plane(crl(points))).crls
    assert [source.url for source in demand.sources] == urls
    assert demand.ca == CA


def test_nothing_is_asked_for_that_nobody_wants() -> None:
    assert wanted(plane()) == Demands()


def test_of_one_issuer_the_newest_list_counts() -> None:
    [demand] = wanted(
        plane(crl("fromCertificates: true, distributionPoints: ['http://a.example', 'http://b.example']"))
    ).crls
    first, second, third = demand.sources
    old, new = held(first), replace(held(second), this_update=NOW + HOUR)
    other = held(third, name=OTHER)
    assert in_force(demand, {first: fresh(old), second: fresh(new), third: fresh(other)}) == sorted(
        [new, other], key=lambda one: one.issuer
    )


def test_a_new_name_only_when_somebody_was_revoked() -> None:
    demands = wanted(plane(crl()))
    [source] = demands.sources
    assert isinstance(source, CrlSource)
    [(key, none)] = learnt_crls(demands, {}).items()
    assert (key, none.pem) == ((CA, POINTS), nobodys_crl())
    der = signed(ROOT, 1, since=NOW, until=NOW + HOUR)
    newer = signed(ROOT, 1, since=NOW + HOUR, until=NOW + 2 * HOUR)
    first = replace(held(source, HOUR, 1), der=der)
    same = replace(held(source, 2 * HOUR, 1), der=newer)
    more = replace(held(source, 2 * HOUR, 1, 2), der=newer)
    found = [learnt_crls(demands, {source: fresh(one)})[CA, POINTS] for one in (first, same, more)]
    assert found[0].generation == found[1].generation != found[2].generation
    assert found[0].version != found[1].version
    assert x509.load_pem_x509_crl(found[0].pem).get_revoked_certificate_by_serial_number(1)


def test_an_answer_is_asked_for_where_a_policy_says_so() -> None:
    [demand] = wanted(plane(staple("Lenient"))).staples
    assert (demand.credential, demand.source.url if demand.source else "", demand.strict) == (
        "credential:shop/shop",
        RESPONDER,
        False,
    )


def test_a_certificate_may_demand_it_itself() -> None:
    leaf = ROOT.issue("shop.example.com", extensions=[answered_at(RESPONDER), MUST_STAPLE])
    [demand] = wanted(plane(leaf=leaf)).staples
    assert (demand.policy, demand.strict) == (None, True)


@pytest.mark.parametrize(
    ("leaf", "problem"),
    [
        (SILENT, "names no OCSP responder"),
        (Authority("elsewhere").issue("a", extensions=[answered_at(RESPONDER)]), "issuer's certificate is not"),
    ],
)
def test_nobody_can_be_asked(leaf: object, problem: str) -> None:
    [demand] = wanted(plane(staple("Must"), leaf=leaf)).staples  # type: ignore[arg-type]
    assert demand.source is None
    assert problem in demand.problem


def test_what_has_no_answer_is_held_back_where_it_must_have_one() -> None:
    for how, back in (("Lenient", set()), ("Strict", set()), ("Must", {"credential:shop/shop"})):
        demands = wanted(plane(staple(how)))
        assert held_back(demands, {}) == back
        [source] = demands.sources
        assert isinstance(source, StapleSource)
        found = learnt_staples(demands, {source: fresh(held(source))})
        assert found.keys() == {"credential:shop/shop"}
        assert held_back(demands, found) == set()
