"""What a RateLimitPolicy looks like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.config.decode import (
    Reader,
    boolean,
    checked,
    duration,
    enum_of,
    fail,
    integer,
    list_of,
    optional,
    parse_duration,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Origin, Ref, Report
from isthmus.kinds.rate_limit_policy.key import BY
from isthmus.kinds.shape.attach import ATTACH_FIELDS, TargetSpec
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.selector import Selector
from isthmus.model.limit import Concurrency, Key, KeyKind, Limit, LimitScope, Period, Quota, Rate

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_METHOD = re.compile(r"[A-Z]+")
_PERIODS: dict[str, timedelta | Period] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": Period.DAY,
    "month": Period.MONTH,
}
_SHORTEST, _LONGEST = timedelta(milliseconds=50), timedelta(days=1)
"""Envoy fills buckets no more often than the former; what takes longer than the latter is a quota."""
_FASTEST = 1_000_000
"""A second."""
_USUAL_LONGEST = timedelta(minutes=5)


class _OnFailure(Enum):
    DENY = False
    ALLOW = True


@dataclass(frozen=True, slots=True)
class _MatchSpec:
    at: Node
    methods: tuple[str, ...]
    plans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LimitSpec:
    at: Node
    limit: Limit


@dataclass(frozen=True, slots=True)
class _RateSpec:
    at: Node
    name: str
    by: tuple[Key, ...]
    match: _MatchSpec | None
    requests: int
    per: timedelta | Period
    burst: int | None
    scope: LimitScope
    shadow: bool
    on_failure: _OnFailure | None


@dataclass(frozen=True, slots=True)
class _ConcurrencySpec:
    at: Node
    name: str
    by: tuple[Key, ...]
    match: _MatchSpec | None
    max: int
    longest: timedelta
    shadow: bool
    on_failure: _OnFailure | None


@dataclass(frozen=True, slots=True)
class RedisSpec:
    at: Node
    secret_name: str


@dataclass(frozen=True, slots=True)
class StoreSpec:
    at: Node
    redis: RedisSpec


@dataclass(frozen=True, slots=True)
class RateLimitPolicySpec:
    """``limits`` and ``concurrency`` are the same but for what they count; their origin is set when it is known."""

    at: Node
    selector: Selector | None
    target_refs: tuple[TargetSpec, ...]
    limits: tuple[LimitSpec, ...]
    concurrency: tuple[LimitSpec, ...]
    headers: bool
    store: StoreSpec | None


def _per(written: str, node: Node, report: Report) -> timedelta | Period:
    period = _PERIODS.get(written) or parse_duration(written)
    if period is None:
        raise fail(report, node, f'"{written}" is neither a duration (such as 10s) nor one of {", ".join(_PERIODS)}')
    if isinstance(period, timedelta) and not _SHORTEST <= period <= _LONGEST:
        raise fail(report, node, "a duration from 50ms to 24h is needed; day and month are calendar quotas")
    return period


def _at_least_one(value: int) -> str | None:
    return None if value >= 1 else f"{value} is too small: at least 1"


def _name_problem(name: str) -> str | None:
    if _NAME.fullmatch(name):
        return None
    return f'"{name}" is not a name of up to 63 small letters, digits and hyphens'


def _method_problem(name: str) -> str | None:
    return None if _METHOD.fullmatch(name) else f'"{name}" is not a method in capitals'


def _plan_problem(name: str) -> str | None:
    return None if name else "a plan has a name"


def _limit(spec: _RateSpec, node: Node, report: Report) -> LimitSpec:
    amount: Rate | Quota
    if isinstance(spec.per, Period):
        amount = Quota(spec.requests, spec.per)
        if spec.burst is not None:
            raise fail(report, node.at("burst"), "a quota of a day or a month has no burst")
        if spec.scope is LimitScope.LOCAL:
            raise fail(report, node.at("per"), "proxies do not remember for so long: a quota needs scope: GLOBAL")
    else:
        amount = Rate(spec.requests, spec.per, spec.burst if spec.burst is not None else spec.requests)
        if spec.requests / spec.per.total_seconds() > _FASTEST:
            raise fail(report, node.at("requests"), f"more than {_FASTEST} a second cannot be counted")
    if spec.scope is LimitScope.LOCAL and spec.on_failure is not None:
        raise fail(report, node.at("onFailure"), "a proxy that counts by itself needs nobody: only for scope: GLOBAL")
    _report_keys(spec.by, node, report)
    return LimitSpec(node, _made(spec, amount, node, spec.scope))


def _report_keys(by: tuple[Key, ...], node: Node, report: Report) -> None:
    if sum(key.kind is KeyKind.HEADER for key in by) > 1:
        raise fail(report, node.at("by"), "only one header is possible")
    if len(set(by)) < len(by):
        raise fail(report, node.at("by"), "the same thing stands there twice")
    kinds = {key.kind for key in by}
    if {KeyKind.CONSUMER, KeyKind.TENANT} <= kinds:
        raise fail(report, node.at("by"), "a consumer has one tenant: consumer alone says the same")


def _concurrent(spec: _ConcurrencySpec, node: Node, report: Report) -> LimitSpec:
    if spec.longest < timedelta(seconds=1):
        raise fail(report, node.at("longest"), "at least 1s is needed")
    _report_keys(spec.by, node, report)
    return LimitSpec(node, _made(spec, Concurrency(spec.max, spec.longest), node, LimitScope.GLOBAL))


def _made(
    spec: _RateSpec | _ConcurrencySpec, amount: Rate | Quota | Concurrency, node: Node, scope: LimitScope
) -> Limit:
    match = spec.match
    return Limit(
        name=spec.name,
        amount=amount,
        origin=Origin(node.ref or Ref("", "", ""), node.source),
        by=spec.by,
        methods=tuple(dict.fromkeys(match.methods)) if match is not None else (),
        plans=tuple(dict.fromkeys(match.plans)) if match is not None else (),
        scope=scope,
        shadow=spec.shadow,
        fail_open=spec.on_failure is _OnFailure.ALLOW,
    )


def _consistent(spec: RateLimitPolicySpec, node: Node, report: Report) -> RateLimitPolicySpec:
    every = (*spec.limits, *spec.concurrency)
    if not every:
        raise fail(report, node, "limits or concurrency is needed")
    names: set[str] = set()
    for one in every:
        if one.limit.name in names:
            raise fail(report, one.at.at("name"), f'there is another limit named "{one.limit.name}"')
        names.add(one.limit.name)
    return spec


_MATCH = record(
    _MatchSpec,
    optional("methods", list_of(checked(text, _method_problem), least=1), ()),
    optional("plans", list_of(checked(text, _plan_problem), least=1), (), note="of consumers; each counts by itself"),
)
_NAME_FIELD = required("name", checked(text, _name_problem), note="in logs, metrics and stores")
_BY_FIELD = optional("by", list_of(BY), (), note="what has a bucket of its own, several together; none: all requests")
_MATCH_FIELD = optional("match", _MATCH, note="which requests it is about; all if not given")
_SHADOW_FIELD = optional("shadow", boolean, False, note="counts and tells, and refuses nobody")
_FAILURE_FIELD = optional("onFailure", enum_of(_OnFailure), note="when nobody can count: DENY, the default, or ALLOW")
_RATE: Reader[LimitSpec] = converted(
    record(
        _RateSpec,
        _NAME_FIELD,
        _BY_FIELD,
        _MATCH_FIELD,
        required("requests", checked(integer, _at_least_one)),
        required("per", converted(text, _per), note="a duration, second, minute or hour; day or month: a quota"),
        optional("burst", checked(integer, _at_least_one), note="how many at once; as many as requests if not given"),
        optional("scope", enum_of(LimitScope), LimitScope.LOCAL, note="LOCAL (each proxy by itself) or GLOBAL"),
        _SHADOW_FIELD,
        _FAILURE_FIELD,
    ),
    _limit,
)
_CONCURRENCY: Reader[LimitSpec] = converted(
    record(
        _ConcurrencySpec,
        _NAME_FIELD,
        _BY_FIELD,
        _MATCH_FIELD,
        required("max", checked(integer, _at_least_one), note="of the proxies of one machine"),
        optional("longest", duration, _USUAL_LONGEST, note="a request under way counts for so long; 5m if not given"),
        _SHADOW_FIELD,
        _FAILURE_FIELD,
    ),
    _concurrent,
)
_STORE = record(
    StoreSpec,
    required(
        "redis",
        record(
            RedisSpec, required("secretName", text, note="a Secret of the policy's namespace, its key url: a Redis URL")
        ),
    ),
)
SPEC: Reader[RateLimitPolicySpec] = converted(
    record(
        RateLimitPolicySpec,
        *ATTACH_FIELDS,
        optional("limits", list_of(_RATE, least=1), ()),
        optional("concurrency", list_of(_CONCURRENCY, least=1), ()),
        optional("headers", boolean, True, note="whether answers tell of the limits"),
        optional("store", _STORE, note="where GLOBAL limits are counted; by each machine if not given"),
    ),
    _consistent,
)
