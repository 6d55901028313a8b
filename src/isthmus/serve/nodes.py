"""Other machines: the port where they join, and the tidying up after those that are gone."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta

from isthmus.api.bundle_endpoint import run_bundle_endpoint, server_context, show
from isthmus.api.enrolment import build_enrolment
from isthmus.api.listening import patiently, tcp_socket
from isthmus.control.admission import Admission
from isthmus.control.control_plane import ControlPlane
from isthmus.control.nodes import Nodes
from isthmus.identity.server import TlsMaterial
from isthmus.model.world import Doors

logger = logging.getLogger(__name__)

_LOOK = timedelta(seconds=1)


def follow_nodes(plane: ControlPlane, nodes: Nodes) -> None:
    """Whatever becomes of the nodes is in the mesh with the next turn, beginning with what they were when we ended."""

    def take() -> None:
        plane.inputs.offers = nodes.offers
        plane.inputs.well = nodes.well
        plane.inputs.evicted = nodes.denied

    def changed() -> None:
        take()
        plane.changed()

    take()
    nodes.changed = changed


def node_gauges(nodes: Nodes) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """For the control plane's metrics."""
    connected = sum(nodes.connected(name) for name in nodes.members)
    states = {"connected": connected, "away": len(nodes.members) - connected, "evicted": len(nodes.evicted)}
    return {"isthmus_nodes": {(state,): count for state, count in states.items()}}


async def forget_the_lost(nodes: Nodes) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(_LOOK.total_seconds())
        nodes.forget_the_lost()


async def serve_enrolment(admission: Admission, reach: Doors | None, tls: Callable[[], TlsMaterial]) -> None:
    """Until cancelled. ``tls``: the control plane's own SVID, asked for again and again."""
    if reach is None:
        return
    at = reach.enrolment
    context = server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    shown: TlsMaterial | None = None

    def renew() -> None:
        nonlocal shown
        material = tls()
        if material is not shown:
            show(context, "".join(material.own.svid.chain).encode(), material.own.key.pem)
            shown = material

    async def keep_showing() -> None:
        while True:
            await asyncio.sleep(_LOOK.total_seconds())
            try:
                renew()
            except (OSError, ssl.SSLError) as fault:
                logger.error("enrolment: the certificate stays as it was: %s", fault)

    renew()
    listening = await patiently(f"https://{at}", lambda: tcp_socket(at.host, at.port))
    # Of the level that is shown: whoever started us by hand waits for it.
    logger.warning("other machines join at %s, their tokens are taken at %s", reach.control_plane, at)
    await asyncio.gather(run_bundle_endpoint(build_enrolment(admission), listening, context), keep_showing())
