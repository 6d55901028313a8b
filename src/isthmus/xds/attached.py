"""Which of the policies that are attached (``model/attachment.py``) hold for a proxy, and at one http route of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.model.attachment import RoutePlace, TargetKind, distinct, most_specific
from isthmus.model.predicate import Destination
from isthmus.model.proxy import Role
from isthmus.xds.context import Context

Configs = Mapping[type, Any]
"""Configurations of filters, by their type."""


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """One kind of policy. ``kind``: its field of ``Policies``.

    ``chain``: what the filters of a port are told, ``route``: what they are told at one http route; of a proxy that no
    policy of the kind is about, and of a route that no policy names, nobody asks. The policies that hold there are
    :func:`policies_at`. A configuration at a route stands in the place of the chain's, whole.
    """

    kind: str
    chain: Callable[[Context, Destination], Configs]
    route: Callable[[Context, Destination, RoutePlace], Configs]
    unnamed: Callable[[Context, Destination], Configs] = lambda context, at: {}
    """What filters are told at every route that no policy of the kind names, where the chain cannot say it."""
    metadata: Callable[[Context, RoutePlace], Mapping[str, Mapping[str, str]]] | None = None
    """What a route's own metadata say, by namespace, where any policy of the kind is about the proxy."""


def concerns(context: Context, kind: str) -> bool:
    """Whether any policy of the kind is about the proxy, or about any route of it."""
    return bool(attached(context, kind))


def attached(context: Context, kind: str) -> tuple[Any, ...]:
    """All policies of the kind that are about the proxy, or about any route of it, in order of loading."""
    return distinct((*policies_of(context, kind), *_by_name(context, kind)))


def policies_of(context: Context, kind: str) -> tuple[Any, ...]:
    """The policies of the kind that hold for all that the proxy does, where no route is named: the most specific."""
    namespaces = context.policy_namespaces
    return most_specific(context.mesh.attached_in(kind, namespaces), namespaces, context.proxy.labels)


def policies_at(context: Context, kind: str, place: RoutePlace) -> tuple[Any, ...]:
    """The policies of the kind that hold at one http route: the most specific, be it those of :func:`policies_of`."""
    named = named_at(context, kind, place)
    if not named:
        return policies_of(context, kind)
    return most_specific(named, (), {}, place)


def named_at(context: Context, kind: str, place: RoutePlace) -> tuple[Any, ...]:
    """The policies that name the route, its VirtualService or its Gateway."""
    candidates = list(context.mesh.targeting(kind, TargetKind.GATEWAY, place.gateway))
    if place.table is not None:
        candidates += context.mesh.targeting(kind, TargetKind.VIRTUAL_SERVICE, place.table)
    return tuple(policy for policy in distinct(candidates) if policy.attachment.at_route(place) is not None)


def _by_name(context: Context, kind: str) -> Iterator[Any]:
    if context.proxy.role is not Role.GATEWAY or kind not in context.mesh.targeted_kinds:
        return
    for gateway in context.mesh.gateways_of(context.proxy):
        yield from context.mesh.targeting(kind, TargetKind.GATEWAY, gateway.key)
        for table in context.mesh.routes_at(gateway.key):
            yield from context.mesh.targeting(kind, TargetKind.VIRTUAL_SERVICE, f"{table.namespace}/{table.name}")
