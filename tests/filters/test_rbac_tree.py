from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.filters.predicate import deal_out
from isthmus.filters.rbac_tree import AXES, SMALLEST, grow, plant
from isthmus.model.facts import Facts, holds
from isthmus.model.match import Exact, Prefix, Present, Regex, Suffix
from isthmus.model.predicate import FALSE, TRUE, All, AnyOf, Header, Host, Method, Not, Path, Peer, leaves
from isthmus.model.reach import by_longest_key

PATH, PEER, HOST = AXES

_PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/A", "/b?x", "/a?x=/b", "/b/a"]
_PEERS = ["spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/y", "spiffe://td/ns/b/sa/x"]
_HOSTS = ["a.example", "A.Example", "a.example:80", "b.example", "x.a.example", "a.example.org"]
_FACTS = st.builds(
    Facts,
    method=st.sampled_from(["GET", "PUT"]),
    path=st.sampled_from(_PATHS),
    peer=st.sampled_from([None, *_PEERS, f"{_PEERS[0]},{_PEERS[1]}"]),
    host=st.sampled_from(_HOSTS),
    headers=st.sampled_from([{}, {"x": "1"}]),
)
_LEAVES = st.one_of(
    st.sampled_from([Method(Exact("GET")), Header("x", Exact("1")), Peer(Present()), Peer(Suffix("/x"))]),
    st.sampled_from([Path(kind(value)) for kind in (Exact, Prefix, Suffix) for value in _PATHS]),
    st.sampled_from([Path(Regex("/a.*")), Path(Regex("/(a|b)/?"))]),
    st.sampled_from([Peer(kind(value)) for kind in (Exact, Prefix) for value in _PEERS]),
    st.sampled_from([Peer(Regex("spiffe://td/ns/a/sa/[^,/]+")), Peer(Regex("spiffe://td.*/ns/b/.*"))]),
    st.sampled_from([Host(Exact(value, ignore_case=True)) for value in _HOSTS]),
    st.sampled_from([Host(Regex(r"(?i)a\.example(:[0-9]+)?")), Host(Suffix(".example", ignore_case=True))]),
)
_PREDICATES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=4).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=4).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=8,
)


def _asked(tree, facts):
    """What the tree asks of a request: as Envoy finds it, by the longest key."""
    value = {PATH: facts.path, PEER: facts.peer, HOST: facts.host}[tree.axis]
    key = max((key for key in tree.leaves if value is not None and value.startswith(key)), key=len, default="")
    return tree.leaves[key]


@pytest.mark.parametrize("axis", AXES, ids=["path", "peer", "host"])
@given(rules=st.lists(_PREDICATES, max_size=8), requests=st.lists(_FACTS, min_size=8, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_tree_lets_the_same_rules_match_as_the_list(axis, rules, requests):
    tree = grow(axis, rules, (), by_longest_key)
    for facts in requests:
        asked = _asked(tree, facts)
        assert [index for index, _ in asked] == sorted({index for index, _ in asked})
        matching = [index for index, rest in asked if holds(rest, facts)]
        assert matching == [index for index, rule in enumerate(rules) if holds(rule, facts)], facts


@pytest.mark.parametrize("axis", AXES, ids=["path", "peer", "host"])
@given(rules=st.lists(_PREDICATES, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_left_of_one_policy_is_one_policy(axis, rules):
    whole = {index for index, rule in enumerate(rules) if len(deal_out(rule)) > 1}
    for leaf in grow(axis, rules, whole, by_longest_key).leaves.values():
        for index, rest in leaf:
            if index in whole:
                assert rest is rules[index]
            else:
                assert len(deal_out(rest)) == 1


def _named(count):
    return tuple(Peer(Exact(f"spiffe://td/ns/a/sa/{number:03}")) for number in range(count))


def test_few_rules_are_a_list():
    assert plant(_named(SMALLEST - 1)) is None
    assert plant(_named(SMALLEST)).axis is PEER


@pytest.mark.parametrize(
    ("axis", "facts"),
    [
        (PATH, [Path(Prefix(f"/{number:03}/")) for number in range(100)]),
        (PEER, [Peer(Regex(rf"spiffe://td/ns/n\-{number:03}/sa/[^,/]+")) for number in range(100)]),
        (HOST, [Host(Regex(rf"(?i)h{number:03}\.example(:[0-9]+)?")) for number in range(100)]),
    ],
    ids=["path", "peer", "host"],
)
def test_rules_are_told_apart_by_what_tells_them_apart(axis, facts):
    every = Peer(Prefix("spiffe://td/")), Path(Prefix("/")), Host(Suffix(".example", ignore_case=True))
    tree = plant([All((Method(Exact("GET")), *every, fact)) for fact in facts])
    assert tree.axis is axis
    assert len(tree.leaves) == 101
    assert max(len(leaf) for key, leaf in tree.leaves.items() if key) == 1


def test_a_rule_of_many_callers_is_asked_about_one():
    rule = All((AnyOf(_named(1000)), Path(Prefix("/a"))))
    tree = plant([rule, FALSE, TRUE])
    assert tree.leaves["spiffe://td/ns/a/sa/007"] == (
        (0, All((Peer(Exact("spiffe://td/ns/a/sa/007")), Path(Prefix("/a"))))),
        (2, TRUE),
    )
    assert tree.leaves[""] == ((2, TRUE),)


def test_rules_that_nothing_tells_apart_are_a_list():
    assert plant([Header("x", Exact(str(number))) for number in range(1000)]) is None
    assert plant([Not(fact) for fact in _named(1000)]) is None
    mixed = [*_named(500), *(Path(Exact(f"/{number}")) for number in range(500))]
    assert plant(mixed) is None, "each half would be in every leaf of the other's"


def test_of_two_ways_the_one_that_asks_less_is_taken():
    rules = [All((Path(Exact(f"/{number % 10}")), peer)) for number, peer in enumerate(_named(200))]
    assert plant(rules).axis is PEER
    assert sum(len(leaves(rest)) for _, rest in plant(rules).leaves["spiffe://td/ns/a/sa/007"]) == 2
