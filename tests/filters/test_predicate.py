from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.filters.predicate import MOST_PARTS, build_policies, deal_out
from isthmus.filters.rbac_term import build_permission, build_principal
from isthmus.model.facts import Facts, holds
from isthmus.model.match import Exact, Prefix
from isthmus.model.predicate import (
    FALSE,
    TRUE,
    All,
    AnyOf,
    DestinationPort,
    Header,
    Method,
    Not,
    Peer,
    RemoteIp,
    Sni,
    SourceIp,
)

_LEAVES = st.sampled_from(
    [
        Sni(Exact("a")),
        DestinationPort(80),
        Peer(Prefix("spiffe://td/")),
        SourceIp(ip_network("10.0.0.0/8")),
        RemoteIp(ip_network("10.1.0.0/16")),
        Method(Exact("GET")),
        Header("x", Exact("1")),
    ]
)
_PREDICATES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=7,
)
_FACTS = st.builds(
    Facts,
    sni=st.sampled_from(["", "a"]),
    port=st.sampled_from([80, 81]),
    peer=st.sampled_from([None, "spiffe://td/x", "spiffe://other/x"]),
    source=st.sampled_from([ip_address("10.0.0.1"), ip_address("11.0.0.1")]),
    remote=st.sampled_from([ip_address("10.1.0.1"), ip_address("11.0.0.1")]),
    method=st.sampled_from(["GET", "PUT"]),
    headers=st.sampled_from([{}, {"x": "1"}]),
)


@given(_PREDICATES, _FACTS)
@settings(max_examples=300, deadline=None)
def test_dealing_out_to_the_two_sides_keeps_the_meaning(predicate, facts):
    pairs = deal_out(predicate)
    assert any(holds(request, facts) and holds(caller, facts) for request, caller in pairs) == holds(predicate, facts)
    for request, caller in pairs:
        build_permission(request)
        build_principal(caller)


def test_an_unmixed_rule_is_one_policy_of_its_own_name():
    rule = All((Method(Exact("GET")), Not(Peer(Exact("spiffe://td/x")))))
    policies = build_policies("ns[a]-policy[b]-rule[0]", rule)
    policy = policies["ns[a]-policy[b]-rule[0]"]
    assert len(policies) == 1
    assert policy.permissions[0].header.name == ":method"
    assert policy.principals[0].not_id.filter_state.key == "isthmus.peer"


def test_a_mixed_rule_becomes_numbered_parts():
    rule = AnyOf((Sni(Exact("a")), Peer(Exact("spiffe://td/x"))))
    assert list(build_policies("rule", rule)) == ["rule-part[0]", "rule-part[1]"]


def test_true_takes_any_and_false_takes_none():
    everything, nothing = build_policies("t", TRUE)["t"], build_policies("f", FALSE)["f"]
    assert everything.permissions[0].any
    assert everything.principals[0].any
    assert nothing.permissions[0].not_rule.any


def test_a_rule_that_would_explode_is_refused():
    mixed = AnyOf((Sni(Exact("a")), Peer(Exact("b"))))
    with pytest.raises(ValueError, match=str(MOST_PARTS)):
        build_policies("rule", All((mixed,) * 9))
