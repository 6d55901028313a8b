"""What AccessPolicies tell the filter: the rules of a port, and those of an http route where these are others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from isthmus.filters.access import Access, AccessReasons
from isthmus.model.access import AccessPolicy
from isthmus.model.attachment import RoutePlace
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.predicate import Destination
from isthmus.model.proxy import Role
from isthmus.xds.attached import RoutePolicy, attached, policies_at, policies_of
from isthmus.xds.context import Context

_KIND = "access"


def _chain(context: Context, at: Destination) -> dict[type, Any]:
    """Where only routes have policies, the filter has no effect on the others."""
    held: tuple[AccessPolicy, ...] = policies_of(context, _KIND)
    by_route = any(policy.attachment.targets for policy in attached(context, _KIND))
    rules = _rules(held) if held else None
    return _told(context, Access(rules, context.aspect(_introspects), by_route))


def _route(context: Context, at: Destination, place: RoutePlace) -> dict[type, Any]:
    return _told(context, Access(_rules(policies_at(context, _KIND, place)), context.aspect(_introspects)))


def _told(context: Context, access: Access) -> dict[type, Any]:
    """Where answers tell reasons, these are found out in a filter before."""
    if not context.aspect(_answers_tell):
        return {Access: access}
    return {AccessReasons: AccessReasons(access), Access: replace(access, explains=False)}


def _answers_tell(context: Context) -> bool:
    gateways = context.mesh.gateways_of(context.proxy) if context.proxy.role is Role.GATEWAY else ()
    return any(server.client_traffic.problems is not None for gateway in gateways for server in gateway.servers)


def _rules(policies: Iterable[AccessPolicy]) -> tuple[Any, ...]:
    return tuple(rule for policy in policies for rule in policy.rules)


def _introspects(context: Context) -> bool:
    """Whether any token may be known from its issuer's answer."""
    policies: tuple[ClientAuthentication, ...] = attached(context, "clients")
    return any(policy.introspection for policy in policies)


ACCESS = RoutePolicy(_KIND, _chain, _route)
