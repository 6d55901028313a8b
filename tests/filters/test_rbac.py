from __future__ import annotations

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import rbac_config_v3
from isthmus.filters.rbac import ALLOW, AUDIT, DENY, Allow, Audit, Deny, NamedRule, build_network
from isthmus.filters.rbac_tree import SMALLEST
from isthmus.model.match import Exact, Prefix
from isthmus.model.predicate import TRUE, Method, Peer

_GET = NamedRule("ns[shop]-policy[read]-rule[0]", Method(Exact("GET")))
_MESH = NamedRule("ns[shop]-policy[mesh]-rule[0]", Peer(Prefix("spiffe://cluster.local/")))
_ACTION = rbac_config_v3.RBAC.Action


def _only(messages):
    (message,) = messages
    return unpack(message.typed_config)


def test_each_action_is_a_filter_with_keys_of_its_own():
    audit, deny, allow = (
        _only(AUDIT.build(Audit((_GET,)))),
        _only(DENY.build(Deny((_GET,)))),
        _only(ALLOW.build(Allow((_GET,)))),
    )
    assert [_ACTION.Name(one.rules.action) for one in (audit, deny, allow)] == ["LOG", "DENY", "ALLOW"]
    assert len({one.rules_stat_prefix for one in (audit, deny, allow)}) == 3
    assert all(list(one.rules.policies) == [_GET.name] for one in (audit, deny, allow))


def test_dry_run_rules_are_shadows_under_istios_prefixes():
    deny, allow = _only(DENY.build(Deny((), (_GET,)))), _only(ALLOW.build(Allow(None, (_GET,))))
    assert not deny.HasField("rules")
    assert not allow.HasField("rules")
    assert (deny.shadow_rules_stat_prefix, allow.shadow_rules_stat_prefix) == (
        "istio_dry_run_deny_",
        "istio_dry_run_allow_",
    )
    assert list(deny.shadow_rules.policies) == list(allow.shadow_rules.policies) == [_GET.name]


def test_allow_without_rules_is_enforced_nonetheless():
    assert _only(ALLOW.build(Allow(()))).HasField("rules")
    assert unpack(build_network(Allow(()), "inbound").typed_config).HasField("rules")


def test_rules_of_one_name_are_all_kept():
    broken = NamedRule("ns[shop]-policy[]-broken", TRUE)
    policies = _only(DENY.build(Deny((broken, broken, _GET, broken)))).rules.policies
    assert sorted(policies) == [
        "ns[shop]-policy[]-broken",
        "ns[shop]-policy[]-broken-same[1]",
        "ns[shop]-policy[]-broken-same[2]",
        _GET.name,
    ]


def _caller(number, account="a"):
    return NamedRule(f"ns[shop]-policy[p{number}]-rule[0]", Peer(Exact(f"spiffe://td/ns/shop/sa/{account}{number}")))


def _leaves(message):
    """By key, the RBAC filter of a leaf of the tree."""
    matcher = message.matcher
    acts = {key: leaf.action for key, leaf in matcher.matcher_tree.prefix_match_map.map.items()}
    acts[""] = matcher.on_no_match.action
    return {key: unpack(unpack(act.typed_config).typed_config.typed_config) for key, act in acts.items()}


def test_many_rules_are_a_tree_whose_leaves_are_the_same_filter_with_fewer():
    dry = tuple(_caller(number, "b") for number in range(10))
    every = NamedRule("ns[shop]-policy[read]-rule[0]", Method(Exact("GET")))
    deny = _only(DENY.build(Deny((*(_caller(number) for number in range(SMALLEST)), every), dry)))
    leaves = _leaves(deny)
    assert len(leaves) == SMALLEST + len(dry) + 1
    for key, found in leaves.items():
        assert (found.rules.action, found.shadow_rules.action) == (_ACTION.Value("DENY"), _ACTION.Value("DENY"))
        assert (found.rules_stat_prefix, found.shadow_rules_stat_prefix) == ("isthmus_deny_", "istio_dry_run_deny_")
        assert every.name in found.rules.policies, key
    assert set(leaves["spiffe://td/ns/shop/sa/a7"].rules.policies) == {_caller(7).name, every.name}
    assert not leaves["spiffe://td/ns/shop/sa/a7"].shadow_rules.policies
    assert set(leaves["spiffe://td/ns/shop/sa/b7"].shadow_rules.policies) == {_caller(7).name}
    assert set(leaves[""].rules.policies) == {every.name}


def test_a_tree_without_an_enforced_rule_for_a_request_still_means_its_action():
    leaves = _leaves(_only(ALLOW.build(Allow(tuple(_caller(number) for number in range(SMALLEST))))))
    assert leaves[""].HasField("rules"), "without the message, everybody would be let in"
    assert not leaves[""].rules.policies
    assert not leaves[""].HasField("shadow_rules")
    dry = _leaves(_only(ALLOW.build(Allow(None, tuple(_caller(number) for number in range(SMALLEST))))))
    assert not any(leaf.HasField("rules") for leaf in dry.values()), "nothing is enforced"


def test_the_filters_are_discovered_as_either():
    few, many = (ALLOW.build(Allow(tuple(_caller(n) for n in range(count))))[0] for count in (1, SMALLEST))
    assert tuple(one.typed_config.type_url.rpartition("/")[2] for one in (few, many)) == ALLOW.types
    assert few.name == many.name


def test_rules_of_one_name_are_all_kept_in_a_tree():
    rules = tuple(NamedRule("same", _caller(number).predicate) for number in range(SMALLEST))
    leaves = _leaves(_only(ALLOW.build(Allow(rules))))
    named = {name for leaf in leaves.values() for name in leaf.rules.policies}
    assert named == {"same", *(f"same-same[{number}]" for number in range(1, SMALLEST))}


def test_on_tcp_each_action_is_a_network_filter():
    for config, action in ((Audit((_MESH,)), "LOG"), (Deny((_MESH,)), "DENY"), (Allow((_MESH,)), "ALLOW")):
        built = build_network(config, "inbound_5432")
        assert built.name == "envoy.filters.network.rbac"
        message = unpack(built.typed_config)
        assert _ACTION.Name(message.rules.action) == action
        assert message.stat_prefix.startswith("inbound_5432.")
    shadow = unpack(build_network(Deny((), (_MESH,)), "inbound_5432").typed_config)
    assert not shadow.HasField("rules")
    assert list(shadow.shadow_rules.policies) == [_MESH.name]


@pytest.mark.parametrize("config", [Audit((_GET,)), Deny((_GET,)), Allow((_GET,)), Deny((), (_GET,))])
def test_on_tcp_a_rule_about_http_is_refused(config):
    with pytest.raises(ValueError, match="asks for HTTP"):
        build_network(config, "inbound_5432")
