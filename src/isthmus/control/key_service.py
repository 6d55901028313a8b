"""API keys for machines that cannot reach their store, over mutual TLS: ``isthmus.v1.ApiKeys``.

A node asks for one id at a time and learns what is kept of that key, or that there is none; what changed it is told by
fingerprints, which say nothing to whoever does not know the id. There is no list.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import grpc
import grpc.aio

from isthmus.consumer.key import is_id
from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.consumer.wire import decode_position, encode_changes, encode_record
from isthmus.control.control_plane import ControlPlane
from isthmus.control.credentials import takes_api_keys
from isthmus.control.roster import Roster
from isthmus.errors import CredentialsUnavailable, NotEnrolled, SvidInvalid
from isthmus.identity.validate import peer_identity
from isthmus.model.key_lookup import API_KEYS, CHANGES, FIND

_AT_ONCE = 256
"""Questions of one node: as many as its process asks."""
_LOOK_SECONDS = 0.1
"""How old the position may be that all nodes are told from one look at the store."""


class KeyStore(Protocol):
    """Each raises CredentialsUnavailable."""

    async def find(self, key_id: str) -> KeyRecord | None: ...
    async def position(self) -> Position: ...
    async def changes(self, since: Position) -> Changes: ...


class KeyService:
    """Answers nodes whose plan has API keys checked by asking here."""

    def __init__(
        self,
        plane: ControlPlane,
        roster: Roster,
        store: KeyStore,
        clock: Callable[[], datetime],
        steady: Callable[[], float],
    ) -> None:
        """``steady``: seconds that only grow."""
        self._plane = plane
        self._roster = roster
        self._store = store
        self._clock = clock
        self._steady = steady
        self._asking: Counter[str] = Counter()
        self._position: Position | None = None
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    def handler(self) -> grpc.GenericRpcHandler:
        methods = {FIND: self._find, CHANGES: self._changes}
        return grpc.method_handlers_generic_handler(
            API_KEYS, {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
        )

    async def _find(self, request: bytes, context: Any) -> bytes:
        key_id = request.decode("ascii", "replace")
        if not is_id(key_id):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not the id of a key")

        async def find() -> bytes:
            return encode_record(await self._store.find(key_id))

        return await self._answer(find, context)

    async def _changes(self, request: bytes, context: Any) -> bytes:
        async def changes() -> bytes:
            since = decode_position(request)
            now = await self._position_now()
            if since is None or since == now:
                return encode_changes(Changes(now, frozenset()))
            return encode_changes(await self._store.changes(since))

        return await self._answer(changes, context)

    async def _answer(self, question: Callable[[], Any], context: Any) -> bytes:
        node = await self._caller(context)
        if self._asking[node] >= _AT_ONCE:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many questions at once")
        self._asking[node] += 1
        try:
            answer: bytes = await question()
        except CredentialsUnavailable as away:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(away))
        except ValueError as broken:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(broken))
        finally:
            self._asking[node] -= 1
            if not self._asking[node]:
                del self._asking[node]
        return answer

    async def _caller(self, context: Any) -> str:
        """The node that asks; aborts for everybody else, and where nobody is to ask."""
        try:
            pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
            caller = peer_identity(pem, self._clock())
            self._roster.check_node(caller.node_name or "", pem)
        except (SvidInvalid, NotEnrolled) as invalid:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(invalid))
        if caller.node_name is None or caller.trust_domain != self._plane.mesh.settings.trust_domain:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{caller} is not a node")
        if not takes_api_keys(self._plane.mesh) or self._plane.inputs.credential_store is not None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no node is to ask here for API keys")
        return str(caller.node_name)

    async def _position_now(self) -> Position:
        """One look at the store for all who ask within a moment."""
        async with self._looking:
            begun = self._steady()
            if self._position is None or begun - self._looked > _LOOK_SECONDS:
                self._position = await self._store.position()
                self._looked = begun
            return self._position
