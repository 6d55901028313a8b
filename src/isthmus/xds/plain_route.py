"""Routes of our own, which no VirtualService wrote: they hold for every path."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, route_v3


def redirect_to_https(port: int) -> Any:
    """A route that sends everything to https. Envoy would keep the port that was asked; ours is the published one."""
    return route_v3.Route(
        name="https-redirect",
        match=route_v3.RouteMatch(prefix="/"),
        redirect=route_v3.RedirectAction(https_redirect=True, port_redirect=port),
    )


def refuse(name: str, status: int, message: str) -> Any:
    """A route that answers by itself."""
    return route_v3.Route(
        name=name,
        match=route_v3.RouteMatch(prefix="/"),
        direct_response=route_v3.DirectResponseAction(status=status, body=core_v3.DataSource(inline_string=message)),
    )


def pass_to(name: str, cluster: str) -> Any:
    """A route that sends everything to ``cluster``."""
    return route_v3.Route(
        name=name,
        match=route_v3.RouteMatch(prefix="/"),
        route=route_v3.RouteAction(cluster=cluster, timeout=duration(timedelta())),
    )
