"""Whether a proxy's routes ask for claims of the verified token, so that they are chosen anew once there is one.

An external authorizer may have them chosen anew, too, by the headers that it sets.
"""

from __future__ import annotations

from isthmus.model.proxy import Role
from isthmus.model.route import RouteTable
from isthmus.xds.context import Context


def routes_ask_claims(context: Context) -> bool:
    """Whether any route that this proxy obeys asks for a claim."""
    return context.recall(_any_asks)


def chosen_anew(context: Context) -> bool:
    """Whether a request may come to another route than its first, once the filters in front have seen it."""
    return any(one.clear_route_cache for one in context.mesh.settings.ext_authz) or routes_ask_claims(context)


def _any_asks(context: Context) -> bool:
    return any(table.asks_claims for table in _obeyed(context))


def _obeyed(context: Context) -> tuple[RouteTable, ...]:
    if context.proxy.role is not Role.GATEWAY:
        return context.mesh.mesh_routes
    keys = {gateway.key for gateway in context.mesh.gateways_of(context.proxy)}
    return tuple(table for table in context.mesh.routes if not keys.isdisjoint(table.gateways))
