"""Access control: AuthorizationPolicies of the actions AUDIT, DENY and ALLOW, on HTTP and on plain TCP.

Each action is a filter of its own, as in Istio. All of them write to the same dynamic metadata, so each prefixes its
keys: see :func:`verdict_log_fields`. Many HTTP rules become a tree of small RBAC filters (``filters/rbac_tree.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import composite_v3, core_v3, listener_v3, network_rbac_v3, rbac_config_v3, rbac_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.matcher_tree import build_tree
from isthmus.filters.predicate import build_policies
from isthmus.filters.rbac_tree import Remainder, plant
from isthmus.model.predicate import Predicate, needs_http

METADATA = "envoy.filters.http.rbac"
"""Where every RBAC filter writes its results, whatever its own name."""

NETWORK_METADATA = "envoy.filters.network.rbac"
"""The same for the network filters, and their name."""

_ALLOW, _DENY, _LOG = (rbac_config_v3.RBAC.Action.Value(name) for name in ("ALLOW", "DENY", "LOG"))


@dataclass(frozen=True, slots=True)
class NamedRule:
    """One rule under the name that metadata and access log give it (``ns[..]-policy[..]-rule[0]``)."""

    name: str
    predicate: Predicate
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """Requests to mark; nothing is refused."""

    rules: tuple[NamedRule, ...]


@dataclass(frozen=True, slots=True)
class Deny:
    """A request that a rule matches is refused; ``dry_run`` rules only say so in the metadata."""

    rules: tuple[NamedRule, ...] = ()
    dry_run: tuple[NamedRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Allow:
    """A request that no rule matches is refused, so no rules refuse all; None: nothing is enforced (dry run only)."""

    rules: tuple[NamedRule, ...] | None = None
    dry_run: tuple[NamedRule, ...] = ()


def build_rules(action: int, rules: Iterable[NamedRule]) -> Any:
    """An RBAC message. Of rules with one name (broken documents may lack theirs) none is lost: they are numbered."""
    return rbac_config_v3.RBAC(action=action, policies=_united(_policies(rules)))


def _policies(rules: Iterable[NamedRule]) -> list[dict[str, Any]]:
    """Of each rule its policies, no two of one name."""
    taken: set[str] = set()
    found: list[dict[str, Any]] = []
    for rule in rules:
        policies: dict[str, Any] = {}
        for name, policy in build_policies(rule.name, rule.predicate).items():
            free = _free_name(name, taken)
            taken.add(free)
            policies[free] = policy
        found.append(policies)
    return found


def _united(policies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: policy for one in policies for name, policy in one.items()}


def _free_name(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-same[{number}]" for number in count(1))
    return name if name not in taken else next(free for free in numbered if free not in taken)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one action and the policies that each of them is; without any, what the action means without."""

    action: int
    rules: tuple[NamedRule, ...]
    policies: tuple[Mapping[str, Any], ...]

    def message(self, some: Iterable[Remainder] | None = None) -> Any:
        """An RBAC message of all rules, or of what is left of some."""
        policies = self.policies if some is None else map(self._left, some)
        return rbac_config_v3.RBAC(action=self.action, policies=_united(policies))

    def _left(self, remainder: Remainder) -> Mapping[str, Any]:
        index, predicate = remainder
        if predicate is self.rules[index].predicate:
            return self.policies[index]
        (name,) = self.policies[index]
        return build_policies(name, predicate)


def _rules(action: int, rules: tuple[NamedRule, ...]) -> _Rules:
    return _Rules(action, rules, tuple(_policies(rules)))


def _build_filter(place: str, enforced: _Rules | None, dry_run: _Rules | None = None) -> tuple[Any, ...]:
    """One RBAC filter; of many rules a tree, whose leaves are each the RBAC filter of the rules to be asked there."""
    name = f"isthmus.rbac.{place}"
    both = [rules for rules in (enforced, dry_run) if rules is not None]
    named = [policies for rules in both for policies in rules.policies]
    # A rule of several policies, taken apart, would give them other names.
    several = {index for index, policies in enumerate(named) if len(policies) > 1}
    tree = plant([rule.predicate for rules in both for rule in rules.rules], several)
    if tree is None:
        return (http_filter(name, _rbac(place, _message(enforced), _message(dry_run))),)
    first = len(enforced.rules) if enforced is not None else 0
    actions = {}
    for key, leaf in tree.leaves.items():
        asked = [(index, rest) for index, rest in leaf if index < first]
        told = [(index - first, rest) for index, rest in leaf if index >= first]
        config = _rbac(place, _message(enforced, asked), _message(dry_run, told))
        extension = core_v3.TypedExtensionConfig(name=name, typed_config=any_of(config))
        actions[key] = composite_v3.ExecuteFilterAction(typed_config=extension)
    return (http_filter(name, composite_v3.Composite(matcher=build_tree(tree.axis.value(), actions))),)


def _message(rules: _Rules | None, some: Iterable[Remainder] | None = None) -> Any:
    return rules.message(some) if rules is not None else None


def _rbac(place: str, enforced: Any, dry_run: Any) -> Any:
    config = rbac_v3.RBAC(rules=enforced, rules_stat_prefix=enforced_prefix(place))
    if dry_run is not None:
        config.shadow_rules.CopyFrom(dry_run)
        config.shadow_rules_stat_prefix = _DRY_RUN_PREFIX[place]
    return config


def enforced_prefix(place: str) -> str:
    """What the metadata keys of one RBAC filter's enforced rules begin with."""
    return f"isthmus_{place}_"


_PLACES = ("audit", "deny", "allow")
# Istio's own names: pilot/pkg/security/authz/model/model.go, RBACShadowRulesDenyStatPrefix and its twin.
_DRY_RUN_PREFIX = {"deny": "istio_dry_run_deny_", "allow": "istio_dry_run_allow_"}
_DRY_RUN_KEYS = {
    f"dry_run_{place}_{field}": f"{prefix}shadow_{key}"
    for place, prefix in _DRY_RUN_PREFIX.items()
    for field, key in (("policy", "effective_policy_id"), ("result", "engine_result"))
}


def _build_audit(config: Audit) -> tuple[Any, ...]:
    return _build_filter("audit", _rules(_LOG, config.rules))


def _build_deny(config: Deny) -> tuple[Any, ...]:
    dry_run = _rules(_DENY, config.dry_run) if config.dry_run else None
    return _build_filter("deny", _rules(_DENY, config.rules) if config.rules else None, dry_run)


def _build_allow(config: Allow) -> tuple[Any, ...]:
    # An RBAC message of action ALLOW that has no policies denies everything; no RBAC message enforces nothing.
    enforced = _rules(_ALLOW, config.rules) if config.rules is not None else None
    return _build_filter("allow", enforced, _rules(_ALLOW, config.dry_run) if config.dry_run else None)


_TYPES = (rbac_v3.RBAC.DESCRIPTOR.full_name, composite_v3.Composite.DESCRIPTOR.full_name)
"""What the filters are, of few rules and of many."""

AUDIT = Filter("isthmus.rbac.audit", Audit, _build_audit, discovered=True, types=_TYPES)
DENY = Filter("isthmus.rbac.deny", Deny, _build_deny, discovered=True, types=_TYPES)
ALLOW = Filter("isthmus.rbac.allow", Allow, _build_allow, discovered=True, types=_TYPES)


def build_network(config: Audit | Deny | Allow, stat_prefix: str) -> Any:
    """The network filter that holds the same rules for a plain TCP connection.

    The rules must ask nothing of HTTP (``widen_for_tcp``, ``needs_http``): raises ValueError otherwise. It decides on
    the first bytes that the peer sends, so a server that speaks first is heard before.
    """
    match config:
        case Audit(rules):
            return _network_filter("audit", stat_prefix, _tcp_rules(_LOG, rules), None)
        case Deny(rules, dry_run):
            enforced = _tcp_rules(_DENY, rules) if rules else None
            return _network_filter("deny", stat_prefix, enforced, _tcp_rules(_DENY, dry_run) if dry_run else None)
        case Allow(allowed, dry_run):
            enforced = _tcp_rules(_ALLOW, allowed) if allowed is not None else None
            return _network_filter("allow", stat_prefix, enforced, _tcp_rules(_ALLOW, dry_run) if dry_run else None)


def _network_filter(place: str, stat_prefix: str, enforced: Any, dry_run: Any) -> Any:
    """The network filter writes metadata for shadow rules only: without a dry run they repeat the enforced ones."""
    built = network_rbac_v3.RBAC(stat_prefix=f"{stat_prefix}.{place}")
    if enforced is not None:
        built.rules.CopyFrom(enforced)
        built.shadow_rules.CopyFrom(enforced)
        built.shadow_rules_stat_prefix = enforced_prefix(place)
    if dry_run is not None:
        built.shadow_rules.CopyFrom(dry_run)
        built.shadow_rules_stat_prefix = _DRY_RUN_PREFIX[place]
    return listener_v3.Filter(name=NETWORK_METADATA, typed_config=any_of(built))


def _tcp_rules(action: int, rules: tuple[NamedRule, ...]) -> Any:
    for rule in rules:
        if needs_http(rule.predicate):
            raise ValueError(f"{rule.name} asks for HTTP, which a TCP connection has not")
    return build_rules(action, rules)


def verdict_log_fields() -> Mapping[str, str]:
    """Access log fields of an HTTP request: by action the policy that matched, and what a dry run would have said.

    ``deny_policy`` refused it, ``allow_policy`` let it in, ``audit_policy`` marked it. Each is null where the filter
    is not there, was not reached, or no rule matched; a request that no ALLOW rule took has an ``allow_result`` of
    ``denied`` and no policy.
    """
    keys = {f"{place}_policy": f"{enforced_prefix(place)}enforced_effective_policy_id" for place in _PLACES}
    keys["allow_result"] = f"{enforced_prefix('allow')}enforced_engine_result"
    return _metadata_fields(METADATA, {**keys, **_DRY_RUN_KEYS})


def tcp_verdict_log_fields() -> Mapping[str, str]:
    """The same for a TCP connection. With a dry run of an action, that action's own policy is not told."""
    keys = {f"{place}_policy": f"{enforced_prefix(place)}shadow_effective_policy_id" for place in _PLACES}
    keys["allow_result"] = f"{enforced_prefix('allow')}shadow_engine_result"
    return _metadata_fields(NETWORK_METADATA, {**keys, **_DRY_RUN_KEYS})


def _metadata_fields(filter_name: str, keys: Mapping[str, str]) -> Mapping[str, str]:
    return {field: f"%DYNAMIC_METADATA({filter_name}:{key})%" for field, key in keys.items()}
