"""The messages; what Envoy makes of them is in ``test_real_access.py``."""

from __future__ import annotations

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import composite_v3, rbac_v3
from isthmus.filters.access import ACCESS, ACCESS_REASONS, Access, AccessReasons, unauthenticated_mapper
from isthmus.filters.router import ROUTER, Router
from tests.access_rule import rule

from .running import Web, build_listener, validate


def built(config: Access):
    (message,) = ACCESS.build(config)
    found = rbac_v3.RBAC()
    assert message.typed_config.Unpack(found)
    assert not found.HasField("shadow_rules")
    return found


def noting(config: Access):
    (message,) = ACCESS_REASONS.build(AccessReasons(config))
    found = unpack(message.typed_config)
    assert not found.HasField("rules"), "it refuses nobody"
    return found


def test_where_nothing_is_said_nothing_is_refused():
    assert built(Access(None)) == rbac_v3.RBAC()


def test_no_rules_let_nobody_in():
    found = built(Access(()))
    assert found.HasField("rules")
    assert not found.rules.policies


def test_a_condition_is_allow_alone():
    access = Access((rule({"paths": ["/{u}"], "scopes": ["a"], "when": "claims.sub == params.u"}),))
    found = built(access)
    assert found.rules.action == found.rules.ALLOW
    (policy,) = found.rules.policies.values()
    assert policy.HasField("condition")
    assert policy.cel_config.enable_string_functions
    reasons = noting(access)
    assert sorted(reasons.shadow_rules.policies) == [
        "0:condition-not-met",
        "1:no-rule",
        "2:not-authenticated",
        "4:client-not-allowed",
        "5:scope-missing",
    ]
    assert not any(one.HasField("condition") for one in reasons.shadow_rules.policies.values())
    assert reasons.shadow_rules.action == reasons.shadow_rules.LOG


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

    assert ACCESS_REASONS.build_route is not None
    config = Access((rule({"scopes": ["a"]}),))
    assert ACCESS_REASONS.build_route(AccessReasons(config)).rbac == noting(config)


def test_who_brought_no_credential_is_told_which_would_do():
    mapper = unauthenticated_mapper("Bearer")
    assert mapper.status_code.value == 401
    assert [(one.header.key, one.header.value) for one in mapper.headers_to_add] == [("www-authenticate", "Bearer")]
    _, noted = mapper.filter.and_filter.filters
    assert noted.metadata_filter.matcher.value.string_match.exact == "2:not-authenticated"
    assert noted.metadata_filter.HasField("match_if_key_not_found"), "unset, it fits where no AccessPolicy was asked"
