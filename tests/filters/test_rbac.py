from __future__ import annotations

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import rbac_config_v3
from isthmus.filters.rbac import ALLOW, AUDIT, DENY, Allow, Audit, Deny, NamedRule, build_network
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
