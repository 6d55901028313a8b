"""The messages; what Envoy makes of them is in ``test_real_access.py``."""

from __future__ import annotations

from dataclasses import replace

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import composite_v3, rbac_v3
from isthmus.filters.access import ACCESS, ACCESS_REASONS, Access, AccessReasons
from isthmus.filters.router import ROUTER, Router
from tests.access_rule import rule

from .running import Web, build_listener, validate


def built(config: Access):
    (message,) = ACCESS.build(config)
    found = rbac_v3.RBAC()
    assert message.typed_config.Unpack(found)
    return found


def test_where_nothing_is_said_nothing_is_refused():
    assert built(Access(None)) == rbac_v3.RBAC()


def test_no_rules_let_nobody_in():
    found = built(Access(()))
    assert found.HasField("rules")
    assert not found.rules.policies


def test_a_condition_is_allow_alone():
    found = built(Access((rule({"paths": ["/{u}"], "scopes": ["a"], "when": "claims.sub == params.u"}),)))
    assert found.rules.action == found.rules.ALLOW
    (policy,) = found.rules.policies.values()
    assert policy.HasField("condition")
    assert policy.cel_config.enable_string_functions
    assert sorted(found.shadow_rules.policies) == [
        "0:no-rule",
        "1:not-authenticated",
        "4:scope-missing",
        "6:condition-not-met",
    ]
    assert not any(one.HasField("condition") for one in found.shadow_rules.policies.values())
    assert found.shadow_rules.action == found.shadow_rules.LOG


def test_rules_of_one_name_are_all_there():
    same = [rule({"methods": [name]}) for name in ("GET", "PUT")]
    assert sorted(built(Access(tuple(same))).rules.policies) == ["rule", "rule-same[1]"]


def test_many_rules_become_a_tree_unless_routes_have_others(tmp_path):
    rules = tuple(rule({"paths": [f"/r{n}/{{u}}"], "when": "claims.sub == params.u"}, f"r{n}") for n in range(300))
    (tree,) = ACCESS.build(Access(rules))
    assert tree.typed_config.type_url.endswith(composite_v3.Composite.DESCRIPTOR.full_name)
    assert len(built(Access(rules, by_route=True)).rules.policies) == 300
    listener = build_listener(Web("web", [tree, *ROUTER.build(Router())]), tmp_path / "log")
    done = validate(tmp_path, [listener])
    assert done.returncode == 0, done.stderr


def test_what_a_route_says():
    assert ACCESS.build_route is not None
    found = ACCESS.build_route(Access((rule({"methods": ["GET"]}),)))
    assert len(found.rbac.rules.policies) == 1


def test_reasons_may_stand_in_a_filter_of_their_own():
    """What answers tell has to be known before the filter that refuses."""
    access = Access((rule({"paths": ["/{u}"], "scopes": ["a"], "when": "claims.sub == params.u"}),), explains=False)
    both, enforced = built(replace(access, explains=True)), built(access)
    (message,) = ACCESS_REASONS.build(AccessReasons(access))
    reasons = unpack(message.typed_config)
    assert (enforced.rules, reasons.shadow_rules) == (both.rules, both.shadow_rules)
    assert not enforced.HasField("shadow_rules")
    assert not reasons.HasField("rules"), "it refuses nobody"
    assert ACCESS_REASONS.build_route is not None
    assert ACCESS_REASONS.build_route(AccessReasons(access)).rbac == reasons
