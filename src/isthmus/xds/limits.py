"""RateLimitPolicies in the proxy: which limits hold where, and what the filters that count are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from isthmus.filters.global_limit import GlobalLimit, GlobalLimits, OpenGlobalLimits
from isthmus.filters.limit import ClientLimits, EarlyLimits, LocalLimit, ShadowLimits
from isthmus.filters.limit_action import ROUTE, ROUTE_LIMITS, SPECIFIC, YES
from isthmus.filters.limit_headers import LimitHeaders
from isthmus.model.attachment import RoutePlace
from isthmus.model.decision import DecisionService
from isthmus.model.limit import KeyKind, LimitScope, RateLimitPolicy
from isthmus.model.predicate import Destination
from isthmus.xds.attached import RoutePolicy, attached, named_at, policies_at, policies_of
from isthmus.xds.claim import chosen_anew
from isthmus.xds.context import Context
from isthmus.xds.decision import decision_cluster

_KIND = "limits"


def _chain(context: Context, at: Destination) -> Mapping[type, Any]:
    return context.aspect(_of_chain)


def _of_chain(context: Context) -> Mapping[type, Any]:
    """A filter stands in the chain if any limit of its sort holds anywhere at the proxy."""
    every: tuple[RateLimitPolicy, ...] = attached(context, _KIND)
    found: dict[type, Any] = {}
    local = tuple(_local(policies_of(context, _KIND), every))
    enforced = [one for one in local if not one.limit.shadow]
    anew = chosen_anew(context)
    # In front of all verification nobody knows yet which route it will be, and so which of the routes' limits hold.
    early = [
        one for one in enforced if one.limit.early and not (anew and any(each.attachment.targets for each in every))
    ]
    sorts: tuple[tuple[type, Iterable[LocalLimit]], ...] = (
        (EarlyLimits, early),
        (ClientLimits, (one for one in enforced if one not in early)),
        (ShadowLimits, (one for one in local if one.limit.shadow)),
    )
    for sort, limits in sorts:
        of_sort = tuple(limits)
        if of_sort:
            found[sort] = sort(of_sort)
    if any(one.headers for one in enforced):
        found[LimitHeaders] = LimitHeaders()
    for sort, fail_open in ((GlobalLimits, False), (OpenGlobalLimits, True)):
        if _counted(every, fail_open=fail_open):
            found[sort] = _global(sort, policies_of(context, _KIND), fail_open=fail_open)
    return found


def _local(everywhere: Iterable[RateLimitPolicy], every: Iterable[RateLimitPolicy]) -> Iterator[LocalLimit]:
    """A policy that routes name holds where their metadata have its key; the others wherever a route says nothing."""
    for held_by_name, policies in ((False, everywhere), (True, (one for one in every if one.attachment.targets))):
        for policy in policies:
            for limit in policy.of(LimitScope.LOCAL):
                held = policy.key if held_by_name else None
                yield LocalLimit(policy.id_of(limit), limit, held, policy.headers)


def _counted(policies: Iterable[RateLimitPolicy], *, fail_open: bool) -> tuple[GlobalLimit, ...]:
    return tuple(
        GlobalLimit(policy.id_of(limit), limit)
        for policy in policies
        for limit in policy.of(LimitScope.GLOBAL)
        if limit.fail_open is fail_open
    )


def _global(sort: type, policies: Iterable[RateLimitPolicy], *, fail_open: bool) -> Any:
    return sort(_counted(policies, fail_open=fail_open), decision_cluster(DecisionService.LIMITS))


def _route(context: Context, at: Destination, place: RoutePlace) -> Mapping[type, Any]:
    """What the chain asks, this route says anew; what it asks nowhere, no route says."""
    chain, policies = _chain(context, at), policies_at(context, _KIND, place)
    sorts = ((GlobalLimits, False), (OpenGlobalLimits, True))
    return {sort: _global(sort, policies, fail_open=fail_open) for sort, fail_open in sorts if sort in chain}


def _metadata(context: Context, place: RoutePlace) -> Mapping[str, Mapping[str, str]]:
    told: dict[str, str] = {}
    if context.aspect(_asks_for_routes):
        told[ROUTE] = f"{place.table or '-'}#{place.route}"
    if named_at(context, _KIND, place):
        told[SPECIFIC] = YES
        told.update({policy.key: YES for policy in policies_at(context, _KIND, place)})
    return {ROUTE_LIMITS: told} if told else {}


def _asks_for_routes(context: Context) -> bool:
    policies: tuple[RateLimitPolicy, ...] = attached(context, _KIND)
    return any(key.kind is KeyKind.ROUTE for policy in policies for limit in policy.limits for key in limit.by)


LIMITS = RoutePolicy(_KIND, _chain, _route, metadata=_metadata)
