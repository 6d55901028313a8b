"""What AccessPolicies tell the filter: the rules of a port, and those of an http route where these are others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.filters.access import Access
from isthmus.model.access import AccessPolicy
from isthmus.model.attachment import RoutePlace
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.predicate import Destination
from isthmus.xds.attached import RoutePolicy, attached, policies_at, policies_of
from isthmus.xds.context import Context

_KIND = "access"


def _chain(context: Context, at: Destination) -> dict[type, Any]:
    """Where only routes have policies, the filter has no effect on the others."""
    held: tuple[AccessPolicy, ...] = policies_of(context, _KIND)
    by_route = any(policy.attachment.targets for policy in attached(context, _KIND))
    rules = _rules(held) if held else None
    return {Access: Access(rules, context.aspect(_introspects), by_route)}


def _route(context: Context, at: Destination, place: RoutePlace) -> dict[type, Any]:
    return {Access: Access(_rules(policies_at(context, _KIND, place)), context.aspect(_introspects))}


def _rules(policies: Iterable[AccessPolicy]) -> tuple[Any, ...]:
    return tuple(rule for policy in policies for rule in policy.rules)


def _introspects(context: Context) -> bool:
    """Whether any token may be known from its issuer's answer."""
    policies: tuple[ClientAuthentication, ...] = attached(context, "clients")
    return any(policy.introspection for policy in policies)


def closes_tcp(context: Context) -> bool:
    """Whether plain TCP ports are closed: all that an AccessPolicy allows are requests."""
    return bool(policies_of(context, _KIND))


ACCESS = RoutePolicy(_KIND, _chain, _route)
