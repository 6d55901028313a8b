"""Limits that the limit service counts, for all proxies: asked behind access control, once a filter.

Source: envoy.extensions.filters.http.ratelimit.v3. A filter either refuses or passes what nobody can count, so there
are two of them. For limits of concurrency the service is told when a request is over, by the lease that it gave: what
was refused has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import (
    core_v3,
    protobuf,
    ratelimit_config_v3,
    ratelimit_v3,
    route_v3,
    type_v3,
)
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.limit_action import from_metadata, generic, named, never, steps
from isthmus.model.limit import Concurrency, Limit

METADATA = "envoy.filters.http.ratelimit"
"""The dynamic metadata of what the service says: ``reason`` and ``limit`` of a refusal, ``shadow``, and a lease."""
RELEASE = "release"
CLOSED, OPEN = "isthmus.limit.global", "isthmus.limit.global_open"
"""The names of the filters, and the domains by which the service tells them apart."""
_TIMEOUT = timedelta(seconds=1)
"""The service answers sooner whatever its store does; this is for one that does not run."""
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class GlobalLimit:
    """``id``: its name to the service, which knows the rest."""

    id: str
    limit: Limit


@dataclass(frozen=True, slots=True)
class GlobalLimits:
    """Refuse what nobody can count. ``cluster``: the service's."""

    limits: tuple[GlobalLimit, ...]
    cluster: str


@dataclass(frozen=True, slots=True)
class OpenGlobalLimits:
    """Pass what nobody can count."""

    limits: tuple[GlobalLimit, ...]
    cluster: str


def limit_log_fields() -> dict[str, str]:
    """Access log fields: the limit that refused, and those that would have."""
    return {"limit": f"%DYNAMIC_METADATA({METADATA}:limit)%", "shadow_limits": f"%DYNAMIC_METADATA({METADATA}:shadow)%"}


def _build_closed(config: GlobalLimits) -> tuple[Any, ...]:
    return (http_filter(CLOSED, _build(CLOSED, config.limits, config.cluster)),)


def _build_open(config: OpenGlobalLimits) -> tuple[Any, ...]:
    return (http_filter(OPEN, _build(OPEN, config.limits, config.cluster)),)


def _build(domain: str, limits: tuple[GlobalLimit, ...], cluster: str) -> Any:
    service = core_v3.GrpcService(envoy_grpc=core_v3.GrpcService.EnvoyGrpc(cluster_name=cluster))
    return ratelimit_v3.RateLimit(
        domain=domain,
        stat_prefix=domain.replace(".", "_"),
        timeout=duration(_TIMEOUT),
        failure_mode_deny=domain == CLOSED,
        status_on_error=type_v3.HttpStatus(code=_UNAVAILABLE),
        rate_limited_as_resource_exhausted=True,
        rate_limit_service=ratelimit_config_v3.RateLimitServiceConfig(
            grpc_service=service, transport_api_version=core_v3.ApiVersion.Value("V3")
        ),
        rate_limits=_rate_limits(domain, limits),
    )


def _build_closed_route(config: GlobalLimits) -> Any:
    return _build_route(CLOSED, config.limits)


def _build_open_route(config: OpenGlobalLimits) -> Any:
    return _build_route(OPEN, config.limits)


def _build_route(domain: str, limits: tuple[GlobalLimit, ...]) -> Any:
    return ratelimit_v3.RateLimitPerRoute(rate_limits=_rate_limits(domain, limits))


def _rate_limits(domain: str, limits: tuple[GlobalLimit, ...]) -> list[Any]:
    """A list without any would mean the chain's."""
    if not limits:
        return [never()]
    built = [_rate_limit(one) for one in limits]
    if any(isinstance(one.limit.amount, Concurrency) for one in limits):
        back = route_v3.RateLimit.HitsAddend(number=protobuf.UInt64Value(value=1), is_negative_hits=True)
        lease = [generic(RELEASE, domain), from_metadata("lease", METADATA, (domain,))]
        built.append(route_v3.RateLimit(actions=lease, hits_addend=back, apply_on_stream_done=True))
    return built


def _rate_limit(one: GlobalLimit) -> Any:
    return route_v3.RateLimit(actions=[step.action for step in (named(one.id), *steps(one.limit))])


GLOBAL_LIMITS = Filter(CLOSED, GlobalLimits, _build_closed, _build_closed_route, discovered=True)
OPEN_GLOBAL_LIMITS = Filter(OPEN, OpenGlobalLimits, _build_open, _build_open_route, discovered=True)
