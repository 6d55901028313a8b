"""AccessPolicies: one RBAC filter of action ALLOW, whose policies have conditions (CEL) that Envoy evaluates itself.

Never a condition in a DENY: an error there would let the request pass, here it lets nobody in. In a filter before it
stand shadow rules, which only note the first check that no rule passed: the reason, should it be refused. They have no
conditions, and nothing that they say can refuse a request. The filter is another because what one notes is known only
when its own refusal has been answered, and the answer tells: who brought no credential gets 401.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from isthmus.envoy_api import any_of as packed
from isthmus.envoy_api.packages import (
    accesslog_v3,
    composite_v3,
    core_v3,
    expr_v1alpha1,
    http_connection_manager_v3,
    matcher_v3,
    protobuf,
    rbac_config_v3,
    rbac_v3,
)
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.matcher_tree import build_tree
from isthmus.filters.predicate import build_policies
from isthmus.filters.rbac import METADATA, enforced_prefix
from isthmus.filters.rbac_tree import AXES, grow
from isthmus.filters.rbac_tree import SMALLEST as FEWEST_IN_TREE
from isthmus.model.access import NOTED_KEY, AccessRule, Alternative, Check, alternatives, explain
from isthmus.model.reach import worthwhile

NAME = "isthmus.access"
REASONS_NAME = "isthmus.access.reasons"
_PREFIX = enforced_prefix("access")
RULE_KEY = f"{_PREFIX}enforced_effective_policy_id"
"""Key of the rule that let the request in."""

_FORBIDDEN, _UNAUTHORIZED = 403, 401
_ALLOW, _LOG = (rbac_config_v3.RBAC.Action.Value(name) for name in ("ALLOW", "LOG"))
_CEL = core_v3.CelExpressionConfig(
    enable_string_conversion=True, enable_string_concat=True, enable_string_functions=True
)


@dataclass(frozen=True, slots=True)
class Access:
    """``rules``: a request that none lets in is refused, so no rules refuse all; None: nothing is enforced here.

    ``introspection``: tokens are known from their issuers' answers, too. ``by_route``: routes have rules of their own.
    """

    rules: tuple[AccessRule, ...] | None
    introspection: bool = False
    by_route: bool = False


@dataclass(frozen=True, slots=True)
class AccessReasons:
    """The shadow rules of ``access``."""

    access: Access


class _Part(Enum):
    """Which of the two filters is meant."""

    RULES = "rules"
    REASONS = "reasons"


def _build(config: Access) -> tuple[Any, ...]:
    return (http_filter(NAME, _built(config, _Part.RULES)),)


def _build_reasons(config: AccessReasons) -> tuple[Any, ...]:
    return (http_filter(REASONS_NAME, _built(config.access, _Part.REASONS)),)


def _built(config: Access, part: _Part) -> Any:
    rules = config.rules or ()
    # What a route says instead is for one RBAC filter, not for a tree of them.
    if len(rules) >= FEWEST_IN_TREE and not config.by_route:
        tree = grow(AXES[0], [rule.operation for rule in rules], range(len(rules)), _gather)
        if tree is not None:
            leaves = {key: tuple(rules[index] for index, _ in leaf) for key, leaf in tree.leaves.items()}
            actions = {key: _action(leaf, config.introspection, part) for key, leaf in leaves.items()}
            return composite_v3.Composite(matcher=build_tree(tree.axis.value(), actions))
    return _rbac(config, part)


def _gather(reaches: Sequence[Any]) -> Any:
    return worthwhile(reaches, smallest=FEWEST_IN_TREE)


def _build_route(config: Access) -> Any:
    return rbac_v3.RBACPerRoute(rbac=_rbac(config, _Part.RULES))


def _build_route_reasons(config: AccessReasons) -> Any:
    return rbac_v3.RBACPerRoute(rbac=_rbac(config.access, _Part.REASONS))


def _rbac(config: Access, part: _Part) -> Any:
    if config.rules is None:
        return rbac_v3.RBAC()
    return _message(config.rules, config.introspection, part)


@lru_cache(maxsize=65536)
def _message(rules: tuple[AccessRule, ...], introspection: bool, part: _Part) -> Any:
    """The configuration of the filter that asks some rules; shared, for most of many leaves stay as they were."""
    return _enforced(rules, introspection) if part is _Part.RULES else _explaining(rules, introspection)


def _enforced(rules: tuple[AccessRule, ...], introspection: bool) -> Any:
    policies: dict[str, Any] = {}
    for index, rule in enumerate(rules):
        for name, policy in _named_policies(rule, introspection):
            # Rules of one name: the user was told; none may get lost.
            policies[name if name not in policies else f"{name}-same[{index}]"] = policy
    enforced = rbac_config_v3.RBAC(action=_ALLOW, policies=policies)
    return rbac_v3.RBAC(rules=enforced, rules_stat_prefix=_PREFIX)


def _explaining(rules: tuple[AccessRule, ...], introspection: bool) -> Any:
    explained = explain(rules, introspection=introspection)
    shadow = {check.key: build_policies(check.key, missed)[check.key] for check, missed in explained}
    noted = rbac_config_v3.RBAC(action=_LOG, policies=shadow)
    return rbac_v3.RBAC(shadow_rules=noted, shadow_rules_stat_prefix=_PREFIX)


def _named_policies(rule: AccessRule, introspection: bool) -> Iterator[tuple[str, Any]]:
    for one in alternatives(rule, introspection=introspection):
        yield from _policies(one)


def _action(rules: tuple[AccessRule, ...], introspection: bool, part: _Part) -> Any:
    name = REASONS_NAME if part is _Part.REASONS else NAME
    extension = core_v3.TypedExtensionConfig(name=name, typed_config=packed(_message(rules, introspection, part)))
    return composite_v3.ExecuteFilterAction(typed_config=extension)


def _policies(one: Alternative) -> Iterator[tuple[str, Any]]:
    for name, policy in build_policies(one.name, one.predicate).items():
        if one.expression is not None:
            policy.condition.CopyFrom(expr_v1alpha1.Expr.FromString(one.expression))
            policy.cel_config.CopyFrom(_CEL)
        yield name, policy


def log_fields() -> Mapping[str, str]:
    """Access log fields: the rule of an AccessPolicy that let the request in."""
    return {"access_rule": f"%DYNAMIC_METADATA({METADATA}:{RULE_KEY})%"}


def unauthenticated_mapper(challenge: str) -> Any:
    """A ResponseMapper that makes the refusal of who brought no credential, and no other, a 401 with its challenge.

    Source: RFC 9110, sections 11.6.1 and 15.5.2.
    """
    refused = core_v3.RuntimeUInt32(default_value=_FORBIDDEN, runtime_key="isthmus.access.forbidden")
    comparison = accesslog_v3.ComparisonFilter(op=accesslog_v3.ComparisonFilter.Op.Value("EQ"), value=refused)
    noted = accesslog_v3.MetadataFilter(
        matcher=matcher_v3.MetadataMatcher(
            filter=METADATA,
            path=[matcher_v3.MetadataMatcher.PathSegment(key=NOTED_KEY)],
            value=matcher_v3.ValueMatcher(string_match=matcher_v3.StringMatcher(exact=Check.AUTHENTICATED.key)),
        ),
        match_if_key_not_found=protobuf.BoolValue(value=False),
    )
    both = accesslog_v3.AndFilter(
        filters=[
            accesslog_v3.AccessLogFilter(status_code_filter=accesslog_v3.StatusCodeFilter(comparison=comparison)),
            accesslog_v3.AccessLogFilter(metadata_filter=noted),
        ]
    )
    header = core_v3.HeaderValue(key="www-authenticate", value=challenge)
    return http_connection_manager_v3.ResponseMapper(
        filter=accesslog_v3.AccessLogFilter(and_filter=both),
        status_code=protobuf.UInt32Value(value=_UNAUTHORIZED),
        headers_to_add=[core_v3.HeaderValueOption(header=header)],
    )


_TYPES = (rbac_v3.RBAC.DESCRIPTOR.full_name, composite_v3.Composite.DESCRIPTOR.full_name)
ACCESS_REASONS = Filter(
    REASONS_NAME, AccessReasons, _build_reasons, _build_route_reasons, discovered=True, types=_TYPES
)
ACCESS = Filter(NAME, Access, _build, _build_route, discovered=True, types=_TYPES)
