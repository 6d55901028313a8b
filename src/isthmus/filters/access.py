"""AccessPolicies: one RBAC filter of action ALLOW, whose policies have conditions (CEL) that Envoy evaluates itself.

Never a condition in a DENY: an error there would let the request pass, here it lets nobody in. Beside the rules that
are enforced stand shadow rules, which only note the first check that no rule passed: the reason, should it be refused.
They have no conditions, and nothing that they say can refuse a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from isthmus.envoy_api import any_of as packed
from isthmus.envoy_api.packages import composite_v3, core_v3, expr_v1alpha1, rbac_config_v3, rbac_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.matcher_tree import build_tree
from isthmus.filters.predicate import build_policies
from isthmus.filters.rbac import METADATA, enforced_prefix
from isthmus.filters.rbac_tree import AXES, grow
from isthmus.filters.rbac_tree import SMALLEST as FEWEST_IN_TREE
from isthmus.model.access import AccessRule, Alternative, alternatives, explain
from isthmus.model.reach import worthwhile

NAME = "isthmus.access"
RULE_KEY = f"{enforced_prefix('access')}enforced_effective_policy_id"
"""Key of the rule that let the request in."""

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


def _build(config: Access) -> tuple[Any, ...]:
    rules = config.rules or ()
    # What a route says instead is for one RBAC filter, not for a tree of them.
    if len(rules) >= FEWEST_IN_TREE and not config.by_route:
        tree = grow(AXES[0], [rule.operation for rule in rules], range(len(rules)), _gather)
        if tree is not None:
            leaves = {key: tuple(rules[index] for index, _ in leaf) for key, leaf in tree.leaves.items()}
            actions = {key: _action(leaf, config.introspection) for key, leaf in leaves.items()}
            return (http_filter(NAME, composite_v3.Composite(matcher=build_tree(tree.axis.value(), actions))),)
    return (http_filter(NAME, _rbac(config)),)


def _gather(reaches: Sequence[Any]) -> Any:
    return worthwhile(reaches, smallest=FEWEST_IN_TREE)


def _build_route(config: Access) -> Any:
    return rbac_v3.RBACPerRoute(rbac=_rbac(config))


def _rbac(config: Access) -> Any:
    if config.rules is None:
        return rbac_v3.RBAC()
    return _message(config.rules, config.introspection)


@lru_cache(maxsize=16384)
def _message(rules: tuple[AccessRule, ...], introspection: bool) -> Any:
    """The configuration of the filter that asks some rules; shared, for most of many leaves stay as they were."""
    policies: dict[str, Any] = {}
    for index, rule in enumerate(rules):
        for name, policy in _named_policies(rule, introspection):
            # Rules of one name: the user was told; none may get lost.
            policies[name if name not in policies else f"{name}-same[{index}]"] = policy
    prefix = enforced_prefix("access")
    explained = explain(rules, introspection=introspection)
    shadow = {check.key: build_policies(check.key, missed)[check.key] for check, missed in explained}
    return rbac_v3.RBAC(
        rules=rbac_config_v3.RBAC(action=_ALLOW, policies=policies),
        rules_stat_prefix=prefix,
        shadow_rules=rbac_config_v3.RBAC(action=_LOG, policies=shadow),
        shadow_rules_stat_prefix=prefix,
    )


def _named_policies(rule: AccessRule, introspection: bool) -> Iterator[tuple[str, Any]]:
    for one in alternatives(rule, introspection=introspection):
        yield from _policies(one)


def _action(rules: tuple[AccessRule, ...], introspection: bool) -> Any:
    extension = core_v3.TypedExtensionConfig(name=NAME, typed_config=packed(_message(rules, introspection)))
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


_TYPES = (rbac_v3.RBAC.DESCRIPTOR.full_name, composite_v3.Composite.DESCRIPTOR.full_name)
ACCESS = Filter(NAME, Access, _build, _build_route, discovered=True, types=_TYPES)
