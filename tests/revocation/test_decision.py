from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography.x509 import ocsp

from isthmus.model.revocation import ClientOcsp, OcspMode
from isthmus.revocation.decision import Decision, OcspDecisions, Reason
from tests.real.pki import Authority, Leaf
from tests.real.revocation_server import answered_at

from .making import HOUR, NOW, FakeFetcher, answer

CA, OTHER = Authority("clients"), Authority("others")
URL = "http://ca.example/ocsp"
LEAF = CA.issue("a.example", extensions=[answered_at(URL)])
REQUIRED = ClientOcsp(OcspMode.REQUIRED, None, timedelta(seconds=1), 4 * HOUR)
BEST_EFFORT = replace(REQUIRED, mode=OcspMode.BEST_EFFORT)
REVOKED = ocsp.OCSPCertStatus.REVOKED
MINUTE = timedelta(minutes=1)


class Service:
    """Decisions at a time that the test sets."""

    def __init__(self, **answers: bytes | str) -> None:
        self.fetcher = FakeFetcher(**answers)
        self.now: datetime = NOW
        self.decisions = OcspDecisions(self.fetcher, lambda: self.now)

    async def decide(self, policy: ClientOcsp = REQUIRED, leaf: Leaf = LEAF) -> Decision:
        found = await self.decisions.decide(leaf.certificate, [OTHER.certificate, CA.certificate], policy)
        # What is fetched meanwhile, for the next one.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return found

    @property
    def asked(self) -> int:
        return len(self.fetcher.asked)


async def test_good_is_asked_once_for_many_connections() -> None:
    service = Service(**{URL: answer(LEAF, CA)})
    found = await asyncio.gather(*(service.decide() for _ in range(10)))
    assert {(one.allowed, one.reason) for one in found} == {(True, Reason.GOOD)}
    assert service.asked == 1


@pytest.mark.parametrize("policy", [REQUIRED, BEST_EFFORT])
async def test_revoked_is_refused(policy: ClientOcsp) -> None:
    found = await Service(**{URL: answer(LEAF, CA, REVOKED)}).decide(policy)
    assert (found.allowed, found.reason) == (False, Reason.REVOKED)


@pytest.mark.parametrize(
    ("said", "leaf", "reason"),
    [
        ("down", LEAF, Reason.UNANSWERED),
        (b"nonsense", LEAF, Reason.UNANSWERED),
        (answer(LEAF, CA, signer=OTHER), LEAF, Reason.UNANSWERED),
        (answer(LEAF, CA, ocsp.OCSPCertStatus.UNKNOWN), LEAF, Reason.UNKNOWN),
        (b"", CA.issue("no.responder"), Reason.NO_RESPONDER),
        (b"", CA.intermediate("between").issue("a.example", extensions=[answered_at(URL)]), Reason.NO_ISSUER),
        (b"", Authority("clients").issue("namesake", extensions=[answered_at(URL)]), Reason.NO_ISSUER),
    ],
)
async def test_who_is_not_known_to_be_good(said: bytes | str, leaf: Leaf, reason: Reason) -> None:
    for policy, allowed in ((REQUIRED, False), (BEST_EFFORT, True)):
        found = await Service(**{URL: said}).decide(policy, leaf)
        assert (found.allowed, found.reason) == (allowed, reason)


async def test_the_policy_may_name_the_responder() -> None:
    service = Service(**{"http://own.example/": answer(LEAF, CA)})
    assert (await service.decide(replace(REQUIRED, responder="http://own.example/"))).allowed


async def test_an_answer_is_renewed_before_it_is_needed_and_serves_until_it_ends() -> None:
    service = Service(**{URL: answer(LEAF, CA, until=NOW + 10 * HOUR)})
    await service.decide()
    service.fetcher.answers[URL] = "down"
    service.now = NOW + HOUR
    assert ((await service.decide()).allowed, service.asked) == (True, 1)
    service.now = NOW + 3 * HOUR
    assert ((await service.decide()).allowed, service.asked) == (True, 2)
    service.now = NOW + 5 * HOUR
    assert (await service.decide()).reason is Reason.UNANSWERED


async def test_an_answer_does_not_outlive_what_it_says_itself() -> None:
    service = Service(**{URL: answer(LEAF, CA, until=NOW + HOUR)})
    await service.decide()
    service.fetcher.answers[URL] = "down"
    service.now = NOW + HOUR
    assert not (await service.decide()).allowed


async def test_a_responder_that_is_down_is_not_asked_by_every_connection() -> None:
    service = Service()
    for _ in range(10):
        assert not (await service.decide()).allowed
    assert service.asked == 1
    service.fetcher.answers[URL] = answer(LEAF, CA)
    service.now += timedelta(seconds=6)
    assert (await service.decide()).allowed


async def test_who_was_revoked_stays_so_when_the_responder_goes_away_or_an_old_answer_comes() -> None:
    service = Service(**{URL: answer(LEAF, CA, REVOKED, since=NOW, until=NOW + HOUR)})
    await service.decide(BEST_EFFORT)
    service.now = NOW + 2 * HOUR
    for said in ("down", answer(LEAF, CA, since=NOW - MINUTE, until=NOW + 24 * HOUR)):
        service.fetcher.answers[URL] = said
        service.now += MINUTE
        assert (await service.decide(BEST_EFFORT)).reason is Reason.REVOKED
    service.fetcher.answers[URL] = answer(LEAF, CA, since=NOW + HOUR, until=NOW + 24 * HOUR)
    service.now += MINUTE
    assert (await service.decide()).allowed, "off hold (RFC 5280, removeFromCRL)"


async def test_what_is_remembered_has_an_end() -> None:
    leaves = [CA.issue("a.example", extensions=[answered_at(f"http://ca.example/{n}")]) for n in range(3)]
    service = Service(**{f"http://ca.example/{n}": answer(leaf, CA) for n, leaf in enumerate(leaves)})
    service.decisions = OcspDecisions(service.fetcher, lambda: service.now, most_kept=2)
    for leaf in (*leaves, leaves[2], leaves[0]):
        await service.decide(leaf=leaf)
    assert service.asked == 4
