"""Limits that each proxy counts by itself: token buckets by address before anybody is verified, by client after.

Source: envoy.extensions.filters.http.local_ratelimit.v3. A bucket belongs to the filter that counts, so one filter of
the chain holds all limits, and a route's metadata says which of them hold there: with a configuration at each route
every route would count by itself. Limits that only watch stand in a filter of their own: among others, one that is over
would let a request pass by all that come behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, limit_descriptor_v3, local_ratelimit_v3, protobuf, route_v3, type_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.limit_action import Step, named, steps, where
from isthmus.model.limit import Limit, Rate

_MOST = 2**32 - 1
_BUCKETS = 10_000
"""Of one limit; the one that was used least recently makes room, and is full again when its client comes back."""
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class LocalLimit:
    """``id`` names it everywhere. ``held``: what the metadata of the routes have where it holds; None: it holds
    wherever no route says otherwise. ``headers``: whether answers tell of it."""

    id: str
    limit: Limit
    held: str | None
    headers: bool

    @property
    def steps(self) -> tuple[Step, ...]:
        return (named(self.id), where(self.held), *steps(self.limit))


@dataclass(frozen=True, slots=True)
class EarlyLimits:
    """Those that need nobody to be verified."""

    limits: tuple[LocalLimit, ...]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Those by what was verified of the client."""

    limits: tuple[LocalLimit, ...]


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """Those that count and refuse nobody."""

    limits: tuple[LocalLimit, ...]


def _build_early(config: EarlyLimits) -> tuple[Any, ...]:
    return _build("isthmus.limit.early", config.limits)


def _build_client(config: ClientLimits) -> tuple[Any, ...]:
    return _build("isthmus.limit.client", config.limits)


def _build_shadow(config: ShadowLimits) -> tuple[Any, ...]:
    return _build("isthmus.limit.shadow", config.limits, enforced=False)


def _build(name: str, limits: tuple[LocalLimit, ...], *, enforced: bool = True) -> tuple[Any, ...]:
    built = local_ratelimit_v3.LocalRateLimit(
        stat_prefix=name.replace(".", "_"),
        filter_enabled=_share(100),
        filter_enforced=_share(100 if enforced else 0),
        # What no limit is about takes from this one, which is never empty.
        token_bucket=_bucket(Rate(_MOST, _SECOND, _MOST)),
        always_consume_default_token_bucket=protobuf.BoolValue(value=False),
        max_dynamic_descriptors=protobuf.UInt32Value(value=_BUCKETS),
        rate_limits=[_rate_limit(one, told=one.headers and enforced) for one in limits],
        descriptors=[descriptor for one in limits for descriptor in _descriptors(one)],
        rate_limited_as_resource_exhausted=True,
    )
    return (http_filter(name, built),)


def _share(percent: int) -> Any:
    return core_v3.RuntimeFractionalPercent(default_value=type_v3.FractionalPercent(numerator=percent))


def _bucket(rate: Rate) -> Any:
    return type_v3.TokenBucket(
        max_tokens=rate.burst,
        tokens_per_fill=protobuf.UInt32Value(value=rate.requests),
        fill_interval=duration(rate.per),
    )


def _rate_limit(one: LocalLimit, *, told: bool) -> Any:
    option = route_v3.RateLimit.XRateLimitOption.Value("DRAFT_VERSION_03" if told else "OFF")
    return route_v3.RateLimit(actions=[step.action for step in one.steps], x_ratelimit_option=option)


def _descriptors(one: LocalLimit) -> Iterator[Any]:
    """Each combination of values that count has buckets of its own; an empty value is any."""
    assert isinstance(one.limit.amount, Rate), "quotas and concurrency are counted by the limit service"
    bucket = _bucket(one.limit.amount)
    for values in product(*(_alternatives(step) for step in one.steps)):
        entries = [
            limit_descriptor_v3.RateLimitDescriptor.Entry(key=step.key, value=value)
            for step, value in zip(one.steps, values, strict=True)
            if value is not None
        ]
        yield limit_descriptor_v3.LocalRateLimitDescriptor(entries=entries, token_bucket=bucket)


def _alternatives(step: Step) -> tuple[str | None, ...]:
    values: tuple[str | None, ...] = step.values if step.values is not None else ("",)
    return (*values, None) if step.optional else values


EARLY_LIMITS = Filter("isthmus.limit.early", EarlyLimits, _build_early, discovered=True)
CLIENT_LIMITS = Filter("isthmus.limit.client", ClientLimits, _build_client, discovered=True)
SHADOW_LIMITS = Filter("isthmus.limit.shadow", ShadowLimits, _build_shadow, discovered=True)
