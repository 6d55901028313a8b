"""Whether a proxy's routes ask for claims of the verified token, so that they are chosen anew once there is one."""

from __future__ import annotations

from isthmus.model.proxy import Role
from isthmus.model.route import RouteTable
from isthmus.xds.context import Context


def routes_ask_claims(context: Context) -> bool:
    """Whether any route that this proxy obeys asks for a claim."""
    return context.recall(_any_asks)


def _any_asks(context: Context) -> bool:
    return any(table.asks_claims for table in _obeyed(context))


def _obeyed(context: Context) -> tuple[RouteTable, ...]:
    if context.proxy.role is not Role.GATEWAY:
        return context.mesh.mesh_routes
    keys = {gateway.key for gateway in context.mesh.gateways_of(context.proxy)}
    return tuple(table for table in context.mesh.routes if not keys.isdisjoint(table.gateways))
