"""RegoPolicies as the filter of a port, and of one route."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from isthmus.filters.rego import Rego
from isthmus.model.attachment import RoutePlace
from isthmus.model.predicate import Destination
from isthmus.model.rego import RegoPolicy
from isthmus.model.settings import RequestBody
from isthmus.xds.attached import Configs, RoutePolicy, policies_at, policies_of
from isthmus.xds.claim import chosen_anew
from isthmus.xds.context import Context

KIND = "rego"


def rego_filter(policies: Iterable[RegoPolicy]) -> Rego:
    """All must allow: the longest of their times, and as much of the body as any of them wants."""
    policies = tuple(policies)
    if not policies:
        return Rego(())
    bodies = [policy.body for policy in policies if policy.body is not None]
    body = (
        RequestBody(
            max(one.max_bytes for one in bodies),
            all(one.allow_partial for one in bodies),
            any(one.as_bytes for one in bodies),
        )
        if bodies
        else None
    )
    return Rego(tuple(policy.key for policy in policies), max(policy.timeout for policy in policies), body)


def _chain(context: Context, _at: Destination) -> Configs:
    return {Rego: replace(rego_filter(policies_of(context, KIND)), chosen_anew=chosen_anew(context))}


def _route(context: Context, _at: Destination, place: RoutePlace) -> Configs:
    return {Rego: rego_filter(policies_at(context, KIND, place))}


def _unnamed(context: Context, _at: Destination) -> Configs:
    return {Rego: Rego(())} if chosen_anew(context) and not policies_of(context, KIND) else {}


REGO_POLICY = RoutePolicy(KIND, _chain, _route, _unnamed)
