"""Evaluation without Envoy; that Envoy says the same is held by ``filters/test_real_access.py``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cel.verdict import Verdict, evaluate
from isthmus.model.access import Check
from isthmus.model.consumer import CLIENT
from isthmus.model.facts import Facts
from tests.access_rule import rule

NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
PEER = "spiffe://cluster.local/ns/shop/sa/frontend"
ALICE = Facts(
    path="/users/alice/orders",
    host="Shop.example.com:443",
    peer=PEER,
    claims={"iss": "https://a", "sub": "alice", "scope": ["r", "w"], "groups": ["staff"], "n": 3, "o": {"k": ["v"]}},
    metadata={
        CLIENT: {"consumer": "acme", "consumer_namespace": "shop", "groups": ["eu"], "plan": "gold", "method": "m"}
    },
)


def holds(when: str, facts: Facts = ALICE, **rest: Any) -> bool:
    written = {"paths": ["/users/{user}/orders"], "when": when, **rest}
    return evaluate([rule(written)], facts, NOW).allowed


@pytest.mark.parametrize(
    "when",
    [
        *("claims.sub == params.user", "claims.n == 3 && claims.n < 3.5 && int(claims.n) == 3", "'v' in claims.o.k"),
        *("'w' in scopes", "'staff' in groups && 'eu' in groups", "consumer == 'shop/acme'", "plan == 'gold'"),
        *("host == 'shop.example.com'", "method == 'GET' && path == '/users/alice/orders'", "has(claims.n)"),
        *("source.namespace == 'shop' && source.serviceAccount == 'frontend'", "source.trustDomain == 'cluster.local'"),
        *("source.principal == 'cluster.local/ns/shop/sa/frontend'", "now.getHours('Europe/Berlin') == 9"),
        *("now.getDayOfWeek() == 1", "!has(claims.zz)", "!('zz' in claims)", "!has(query.a)", "!('x-a' in headers)"),
        *("claims.zz == 1 || true", "claims.sub.matches('^al')", "claims.sub.upperAscii() == 'ALICE'"),
    ],
)
def test_true(when: str) -> None:
    assert holds(when)


@pytest.mark.parametrize(
    "when",
    [
        *("claims.zz == 1", "!(claims.zz == 1)", "claims.sub == 3", "claims.o.zz == 'v'", "int(claims.sub) > 0"),
        *("headers['x-a'] == ''", "int(query.a) < 5", "'zz' in groups", "claims.zz", "claims.sub", "'x' in claims.sub"),
    ],
)
def test_an_error_is_not_true(when: str) -> None:
    assert not holds(when)


def test_what_an_external_provider_may_not_say_is_null_and_no_value() -> None:
    nobody = dict.fromkeys(("consumer", "consumer_namespace", "groups", "plan", "method", "claims"))
    conditions = ("plan != 'free'", "!(plan == 'free')", "consumer != 'shop/acme'", "!('eu' in groups)")
    for when in (*conditions, "scopes != ['w']"):
        assert not holds(when, replace(ALICE, claims={}, metadata={CLIENT: nobody}))


def test_a_foreign_trust_domain_has_no_namespaces_of_ours() -> None:
    foreign = replace(ALICE, peer="spiffe://partner.example/ns/shop/sa/frontend")
    assert not holds("source.namespace == 'shop'", foreign)
    assert not holds("source.namespace != 'bank'", foreign)
    assert holds("source.trustDomain == 'partner.example'", foreign)
    assert not holds("source.principal != 'x'", replace(ALICE, peer=None))


@pytest.mark.parametrize(
    ("query", "small"),
    [
        *(
            ("n=5", True),
            ("a=1&n=5&b=%20", True),
            ("n=50", False),
            ("n=5&n=5", False),
            ("n=5&N=5", False),
            ("N=5", False),
        ),
        *(
            ("n=%35", False),
            ("n=5&%6e=50", False),
            ("n=5;n=50", False),
            ("n=5&n[]=50", False),
            ("n", False),
            ("", False),
        ),
        *(("n=5&n", False), ("nn=5", False), ("n=5+1", False), ("xn=50&n=5", True), ("n=5&a=n=50", True)),
    ],
)
def test_a_query_parameter(query: str, small: bool) -> None:
    assert holds("int(query.n) < 10", replace(ALICE, path=f"/users/alice/orders?{query}")) is small


@given(st.lists(st.sampled_from(["n", "N", "%6e", "n[]", "m", "nn", "n[0]"]), max_size=4), st.data())
def test_what_passes_is_what_every_reader_sees(names: list[str], data: st.DataObject) -> None:
    """Readers who take the first, or the last, look past case, or decode names: all see the value that was compared."""
    values = [data.draw(st.sampled_from(["1", "99", "%39"])) for _ in names]
    separator = data.draw(st.sampled_from(["&", ";", "&&"]))
    query = separator.join(f"{name}={value}" for name, value in zip(names, values, strict=True))
    seen = [
        value.replace("%39", "9")
        for name, value in zip(names, values, strict=True)
        if name.replace("%6e", "n").lower().partition("[")[0] == "n"
    ]
    if holds("!has(query.n) || int(query.n) < 10", replace(ALICE, path=f"/users/alice/orders?{query}")):
        assert all(int(value) < 10 for value in seen)


def test_the_reason_is_the_first_check_that_no_rule_passes() -> None:
    rules = [
        rule({"methods": ["POST"], "paths": ["/a"], "serviceAccounts": ["frontend"], "scopes": ["w"]}, "a"),
        rule({"methods": ["POST"], "paths": ["/a"], "groups": ["board"], "when": "claims.n == 4"}, "b"),
    ]

    def reason(facts: Facts) -> Check | None:
        return evaluate(rules, facts, NOW).reason

    known = replace(ALICE, method="POST", path="/a")
    assert evaluate(rules, known, NOW) == Verdict("a")
    assert reason(replace(known, path="/b")) is Check.OPERATION
    assert reason(replace(known, claims=None, metadata={})) is Check.AUTHENTICATED
    assert reason(replace(known, claims={"iss": "a", "scope": ["r"]})) is Check.GROUPS
    assert reason(replace(known, claims={"iss": "a", "groups": ["board"]})) is Check.CONDITION
    only = rules[:1]
    stranger = replace(known, peer="spiffe://cluster.local/ns/shop/sa/other")
    assert evaluate(only, stranger, NOW).reason is Check.PEER
    assert evaluate([], known, NOW) == Verdict(None, Check.OPERATION)


def test_the_claims_of_two_tokens_are_never_mixed() -> None:
    written = rule({"scopes": ["w"], "when": "claims.sub == 'alice'"})
    both = Facts(
        claims={"iss": "a", "sub": "alice", "scope": ["r"]},
        metadata={CLIENT: {"method": "introspection", "claims": {"sub": "bob", "scope": ["w"]}}},
    )
    assert not evaluate([written], both, NOW, introspection=True).allowed
    opaque = replace(both, claims=None)
    assert not evaluate([written], opaque, NOW, introspection=True).allowed
    good = replace(opaque, metadata={CLIENT: {"method": "introspection", "claims": {"sub": "alice", "scope": ["w"]}}})
    assert evaluate([written], good, NOW, introspection=True) == Verdict("rule-introspected")
    assert not evaluate([written], good, NOW).allowed
