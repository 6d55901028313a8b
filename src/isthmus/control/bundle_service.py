"""Bundles for the decision services of other machines, over mutual TLS: ``isthmus.v1.RegoBundles``.

A bundle may have megabytes, so the plan names it by its digest (``Plan.bundles``), and a node asks for what it lacks.
The request is the digest as text, the answer the bundle in pieces.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Protocol

import grpc
import grpc.aio

from isthmus.control.asked import Asked, no_secret
from isthmus.control.control_plane import ControlPlane
from isthmus.control.rego import node_bundles
from isthmus.control.roster import Roster
from isthmus.errors import NotEnrolled, RegoBundleRefused, StateUnusable, SvidInvalid
from isthmus.identity.validate import peer_identity
from isthmus.identity.wire import FETCH_BUNDLE, REGO_BUNDLES

_PIECE_BYTES = 256 << 10
_log = logging.getLogger(__name__)


class Packed(Protocol):
    def packed(self, digest: str) -> bytes:
        """The bytes of a bundle. Raises RegoBundleRefused, StateUnusable."""


class BundleService:
    """Gives nodes of this mesh the bundles that are in force and that they decide by, and no others."""

    def __init__(self, plane: ControlPlane, roster: Roster, store: Packed, clock: Callable[[], datetime]) -> None:
        self._plane = plane
        self._roster = roster
        self._store = store
        self._clock = clock

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_stream_rpc_method_handler(self._fetch)
        return grpc.method_handlers_generic_handler(REGO_BUNDLES, {FETCH_BUNDLE: method})

    async def _fetch(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
            caller = peer_identity(pem, self._clock())
            self._roster.check_node(caller.node_name or "", pem)
        except (SvidInvalid, NotEnrolled) as invalid:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(invalid))
        if caller.node_name is None or caller.trust_domain != self._plane.mesh.settings.trust_domain:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{caller} is not a node")
        digest = request.decode("ascii", "replace")
        mesh, world = self._plane.mesh, self._plane.world
        if digest not in {one.digest for one in world.rego_bundles.values()}:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle is in force (any more)")
        if digest not in node_bundles(Asked(mesh, world, caller.node_name or "", no_secret)):
            why = f"the node {caller.node_name} decides by no policy of the bundle {digest[:12]}"
            _log.warning("%s, and is not given it", why)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
        try:
            packed = self._store.packed(digest)
        except (RegoBundleRefused, StateUnusable) as fault:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(fault))
        for at in range(0, len(packed), _PIECE_BYTES):
            yield packed[at : at + _PIECE_BYTES]
