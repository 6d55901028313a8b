"""Policies that hold for a whole proxy, or for one http route of a gateway instead: the more specific one.

A kind of policy is one entry of :data:`ROUTE_POLICIES`. Its filter stands in the chain of every port as soon as any
policy of the kind is about the proxy; what an http route says otherwise stands at the route.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isthmus.diag import Origin
from isthmus.filters import FILTERS
from isthmus.model.attachment import RoutePlace
from isthmus.model.predicate import Destination
from isthmus.xds.access import ACCESS
from isthmus.xds.attached import RoutePolicy, attached, concerns, named_at
from isthmus.xds.clients import CLIENTS
from isthmus.xds.context import Context
from isthmus.xds.limits import LIMITS
from isthmus.xds.oidc import LOGINS
from isthmus.xds.rego import REGO_POLICY

ROUTE_POLICIES: tuple[RoutePolicy, ...] = (CLIENTS, LOGINS, REGO_POLICY, LIMITS, ACCESS)


def chain_configs(context: Context, at: Destination) -> dict[type, Any]:
    """What all kinds tell the filters of one port."""
    found: dict[type, Any] = {}
    for policy in ROUTE_POLICIES:
        if concerns(context, policy.kind):
            found.update(policy.chain(context, at))
    return found


def route_policies(context: Context, at: Destination, scope: str) -> Callable[[RoutePlace], Mapping[str, Any]]:
    """What each route of one port of a gateway tells the filters, by the name that they have in the chain ``scope``."""
    kinds = context.mesh.targeted_kinds
    policies = tuple(policy for policy in ROUTE_POLICIES if policy.kind in kinds)
    return lambda place: _route_configs(policies, context, at, place, scope) if policies else {}


def _route_configs(
    policies: tuple[RoutePolicy, ...], context: Context, at: Destination, place: RoutePlace, scope: str
) -> dict[str, Any]:
    configs: dict[type, Any] = {}
    for policy in policies:
        if named_at(context, policy.kind, place):
            configs.update(policy.route(context, at, place))
    return _built(configs, scope)


def unnamed_configs(context: Context, at: Destination, scope: str) -> Mapping[str, Any]:
    """What a port's routes tell the filters where they say nothing themselves."""
    configs: dict[type, Any] = {}
    for policy in ROUTE_POLICIES:
        if concerns(context, policy.kind):
            configs.update(policy.unnamed(context, at))
    return _built(configs, scope)


def _built(configs: dict[type, Any], scope: str) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for filter_ in FILTERS:
        config = configs.pop(filter_.route_config or filter_.config, None)
        if config is not None:
            if filter_.build_route is None:
                raise ValueError(f"{filter_.name} says the same at every route")
            built[f"{scope}/{filter_.name}" if filter_.discovered else filter_.name] = filter_.build_route(config)
    if configs:
        raise ValueError(f"no filter takes {', '.join(sorted(config.__name__ for config in configs))}")
    return built


def route_metadata(context: Context) -> Callable[[RoutePlace], Mapping[str, Mapping[str, str]]]:
    """What the metadata of each route of a gateway say of policies, by namespace."""
    tellers = [one.metadata for one in ROUTE_POLICIES if one.metadata is not None and concerns(context, one.kind)]

    def told(place: RoutePlace) -> Mapping[str, Mapping[str, str]]:
        return {name: fields for tell in tellers for name, fields in tell(context, place).items()}

    return told if tellers else lambda place: {}


def route_origins(context: Context) -> tuple[Origin, ...]:
    """The policies that are about a proxy, or about any route of it."""
    return tuple(policy.origin for one in ROUTE_POLICIES for policy in attached(context, one.kind))
