"""Access control: AuthorizationPolicies of the actions AUDIT, DENY and ALLOW, on HTTP and on plain TCP.

Each action is a filter of its own, as in Istio. All of them write to the same dynamic metadata, so each prefixes its
keys: see :func:`verdict_log_fields`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import listener_v3, network_rbac_v3, rbac_config_v3, rbac_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.predicate import build_policies
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
    policies: dict[str, Any] = {}
    for rule in rules:
        for name, policy in build_policies(rule.name, rule.predicate).items():
            policies[_free_name(name, policies)] = policy
    return rbac_config_v3.RBAC(action=action, policies=policies)


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    numbered = (f"{name}-same[{number}]" for number in count(1))
    return name if name not in taken else next(free for free in numbered if free not in taken)


def _build_filter(place: str, enforced: Any, dry_run: Any = None) -> tuple[Any, ...]:
    config = rbac_v3.RBAC(rules=enforced, rules_stat_prefix=enforced_prefix(place))
    if dry_run is not None:
        config.shadow_rules.CopyFrom(dry_run)
        config.shadow_rules_stat_prefix = _DRY_RUN_PREFIX[place]
    return (http_filter(f"isthmus.rbac.{place}", config),)


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
    return _build_filter("audit", build_rules(_LOG, config.rules))


def _build_deny(config: Deny) -> tuple[Any, ...]:
    dry_run = build_rules(_DENY, config.dry_run) if config.dry_run else None
    return _build_filter("deny", build_rules(_DENY, config.rules) if config.rules else None, dry_run)


def _build_allow(config: Allow) -> tuple[Any, ...]:
    # An RBAC message of action ALLOW that has no policies denies everything; no RBAC message enforces nothing.
    enforced = build_rules(_ALLOW, config.rules) if config.rules is not None else None
    return _build_filter("allow", enforced, build_rules(_ALLOW, config.dry_run) if config.dry_run else None)


AUDIT = Filter("isthmus.rbac.audit", Audit, _build_audit, discovered=True)
DENY = Filter("isthmus.rbac.deny", Deny, _build_deny, discovered=True)
ALLOW = Filter("isthmus.rbac.allow", Allow, _build_allow, discovered=True)


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
