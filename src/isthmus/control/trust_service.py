"""Which nodes trust what: the next root may sign when every proxy that is connected would believe it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import grpc
import grpc.aio

from isthmus.ads.status import Statuses
from isthmus.control.control_plane import ControlPlane
from isthmus.control.roster import Roster
from isthmus.errors import NotEnrolled, SvidInvalid
from isthmus.identity.validate import peer_identity
from isthmus.identity.wire import CONFIRM_TRUST, TRUST_SERVICE
from isthmus.proxy.plan import TrustBundle, trust_version

_VERSION_MAX_BYTES = 64


class TrustService:
    """Hears from each node's agent which trust bundles all of its proxies have taken."""

    def __init__(self, plane: ControlPlane, statuses: Statuses, roster: Roster, clock: Callable[[], datetime]) -> None:
        self._roster = roster
        self._plane = plane
        self._statuses = statuses
        self._clock = clock
        self._confirmed: dict[str, str] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_unary_rpc_method_handler(self._confirm)
        return grpc.method_handlers_generic_handler(TRUST_SERVICE, {CONFIRM_TRUST: method})

    def behind(self) -> tuple[str, ...]:
        """The nodes with a connected proxy whose agent has not told that all of its proxies have the plan's trust."""
        return behind(self._confirmed, self._connected(), self._plane.trust)

    def _connected(self) -> Iterable[str]:
        proxies = self._plane.mesh.proxies_by_id
        return {proxies[one.proxy_id].node for one in self._statuses.all() if one.proxy_id in proxies}

    async def _confirm(self, version: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
            caller = peer_identity(pem, self._clock())
            self._roster.check_node(caller.node_name or "", pem)
        except (SvidInvalid, NotEnrolled) as invalid:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(invalid))
        node = caller.node_name
        if node is None or caller.trust_domain != self._plane.mesh.settings.trust_domain:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{caller} is not a node")
        assert node is not None, "abort raises"
        self._confirmed[node] = version[:_VERSION_MAX_BYTES].decode("ascii", "replace")
        return b""


def behind(confirmed: dict[str, str], connected: Iterable[str], trust: tuple[TrustBundle, ...]) -> tuple[str, ...]:
    """Those of the ``connected`` nodes that have confirmed another version of ``trust``, or none."""
    wanted = trust_version(trust)
    return tuple(sorted(node for node in connected if confirmed.get(node) != wanted))
