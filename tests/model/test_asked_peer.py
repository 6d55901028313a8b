from __future__ import annotations

import re

import pytest

from isthmus.model.asked_peer import LONGEST, asked_peers
from isthmus.model.match import Exact, Prefix, Present, Regex, Suffix
from isthmus.model.predicate import All, AnyOf, Method, Not, Peer, Predicate

WEB, JOB = Peer(Exact("spiffe://td/ns/shop/sa/web")), Peer(Prefix("spiffe://td/ns/jobs/"))
GET = Method(Exact("GET"))


@pytest.mark.parametrize(
    ("rules", "takes", "refuses"),
    [
        ([WEB], ["spiffe://td/ns/shop/sa/web"], ["spiffe://td/ns/shop/sa/web2", "xspiffe://td/ns/shop/sa/web", ""]),
        ([All((GET, WEB)), JOB], ["spiffe://td/ns/shop/sa/web", "spiffe://td/ns/jobs/sa/x"], ["spiffe://td/ns/job"]),
        ([AnyOf((WEB, All((GET, JOB))))], ["spiffe://td/ns/jobs/sa/x"], ["other"]),
        ([Peer(Regex("spiffe://td/ns/(a|b)/sa/[^,/]+"))], ["spiffe://td/ns/b/sa/c"], ["spiffe://td/ns/c/sa/c"]),
        ([Peer(Suffix("/sa/web"))], ["spiffe://td/ns/b/sa/web"], ["spiffe://td/ns/b/sa/webs"]),
        ([Peer(Present())], ["anybody"], [""]),
        ([All((Peer(Present()), WEB))], ["spiffe://td/ns/shop/sa/web"], []),
    ],
)
def test_whom_rules_ask_for(rules: list[Predicate], takes: list[str], refuses: list[str]) -> None:
    pattern = asked_peers(rules)
    assert pattern is not None
    assert all(re.search(pattern, peer) for peer in takes)
    assert not any(re.search(pattern, peer) for peer in refuses)


@pytest.mark.parametrize("rules", [[], [GET], [WEB, GET], [Not(WEB)], [AnyOf((WEB, GET))], [AnyOf(())], [All(())]])
def test_rules_that_take_anybody_or_nobody_ask_for_none(rules: list[Predicate]) -> None:
    assert asked_peers(rules) is None


def test_too_many_are_not_carried_by_every_request() -> None:
    many = [Peer(Exact(f"spiffe://td/ns/shop/sa/{number}")) for number in range(LONGEST)]
    assert asked_peers(many[:20]) is not None
    assert asked_peers(many) is None
