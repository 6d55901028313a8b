"""One route of one VirtualService, compiled."""

from __future__ import annotations

from traffic_manifest import ORDERS, Compiled, compiled, networking

from isthmus.model.route import Forward

TO_ORDERS = "\n  route: [{destination: {host: orders}}]"


def route(fields: str, destination: str = TO_ORDERS, *more: str) -> Compiled:
    """``fields`` begin at 7:5."""
    return compiled(networking("VirtualService", f"hosts: [orders]\nhttp:\n- {fields}{destination}"), ORDERS, *more)


def forward(fields: str, *more: str) -> Forward:
    done = route(fields, TO_ORDERS, *more)
    assert done.found == []
    action = done.mesh.routes[0].routes[0].action
    assert isinstance(action, Forward)
    return action
