from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import count

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import Changes, KeyRecord, Position
from isthmus.consumer.wire import decode_changes, decode_record, encode_position, fingerprint
from isthmus.control.control_plane import ControlPlane
from isthmus.control.key_service import KeyService
from isthmus.control.nodes import Nodes
from isthmus.control.roster import Roster
from isthmus.errors import CredentialsUnavailable
from isthmus.model.key_lookup import CHANGES, FIND, method_path
from isthmus.model.offer import Scope
from tests.identity.making import HOUR, NOW, leaf, uri

from .making import plane_of
from .test_credential_service import Aborted, Connection

NODE = "spiffe://cluster.local/isthmus/node/edge-1"
KEY = ApiKey.make()
RECORD = KeyRecord(KEY.id, "shop/mobile", KEY.digest, NOW)
POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {name: keys, namespace: shop}
spec: {methods: [METHOD]}
"""


class Store:
    def __init__(self) -> None:
        self.looked = 0
        self.at = 3
        self.broken = False
        self.gate: asyncio.Event | None = None

    async def find(self, key_id: str) -> KeyRecord | None:
        self._check()
        if self.gate is not None:
            await self.gate.wait()
        return RECORD if key_id == KEY.id else None

    async def position(self) -> Position:
        self._check()
        self.looked += 1
        return Position("store", self.at)

    async def changes(self, since: Position) -> Changes:
        self._check()
        return Changes(Position("store", self.at), frozenset({KEY.id}) if since.sequence else None)

    def _check(self) -> None:
        if self.broken:
            raise CredentialsUnavailable("database is locked")


class Files:
    def read(self, _name: str) -> bytes | None:
        return None

    def write_private(self, name: str, data: bytes) -> None:
        pass


class Asking:
    """A control plane, and a node that asks it."""

    def __init__(self, method: str = "{apiKey: {}}") -> None:
        self.plane: ControlPlane = plane_of(POLICY.replace("METHOD", method))
        self.store = Store()
        self.now: datetime = NOW
        self.seconds = 100.0
        self.certificate = leaf(uri(NODE))
        self.nodes = Nodes(Files(), lambda: self.now, HOUR)
        pem = self.certificate.public_bytes(Encoding.PEM).decode()
        self.nodes.certified("edge-1", NODE, pem)
        self.nodes.admit("edge-1", Scope.parse("gateway:shop/edge"))
        roster = Roster(self.plane, lambda: self.now, self.nodes)
        service = KeyService(self.plane, roster, self.store, lambda: self.now, lambda: self.seconds)
        self._handler = service.handler()

    async def ask(self, method: str, request: bytes, uris: tuple[str, ...] | None = None) -> bytes:
        class Call:
            invocation_metadata = ()

        Call.method = method_path(method)  # type: ignore[attr-defined]
        shown = self.certificate if uris is None else leaf(*map(uri, uris)) if uris else None
        connection = Connection(None if shown is None else shown.public_bytes(Encoding.PEM))
        answer: bytes = await self._handler.service(Call()).unary_unary(request, connection)
        return answer

    async def refused(self, method: str = FIND, request: bytes = KEY.id.encode(), **given: tuple[str, ...]) -> object:
        with pytest.raises(Aborted) as refused:
            await self.ask(method, request, **given)
        return refused.value.code


async def test_one_key_by_its_id() -> None:
    asking = Asking()
    assert decode_record(await asking.ask(FIND, KEY.id.encode())) == RECORD
    assert decode_record(await asking.ask(FIND, ApiKey.make().id.encode())) is None


@pytest.mark.parametrize("text", ["", "%", KEY.id[:-1], f"{KEY.id}' or 1", "é" * 12, "*" * 12], ids=count())
async def test_and_not_by_anything_else(text: str) -> None:
    assert await Asking().refused(request=text.encode()) is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_changed_is_told_to_who_knows_it() -> None:
    asking = Asking()
    first = decode_changes(await asking.ask(CHANGES, b""))
    assert first == Changes(Position("store", 3), frozenset())
    assert decode_changes(await asking.ask(CHANGES, encode_position(first.position))).ids == frozenset()
    asking.store.at, asking.seconds = 4, 101.0
    told = await asking.ask(CHANGES, encode_position(first.position))
    assert KEY.id.encode() not in told
    assert decode_changes(told) == Changes(Position("store", 4), frozenset({fingerprint(KEY.id)}))
    assert decode_changes(await asking.ask(CHANGES, encode_position(Position("other", 0)))).ids is None
    assert await asking.refused(CHANGES, b"rubbish") is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_nodes_cost_one_look() -> None:
    asking = Asking()
    here = encode_position(Position("store", 3))
    await asyncio.gather(*(asking.ask(CHANGES, here) for _ in range(50)))
    assert asking.store.looked == 1
    asking.seconds += 0.2
    await asking.ask(CHANGES, here)
    assert asking.store.looked == 2


async def test_a_store_that_does_not_answer() -> None:
    asking = Asking()
    asking.store.broken = True
    assert await asking.refused() is grpc.StatusCode.FAILED_PRECONDITION
    assert await asking.refused(CHANGES, b"") is grpc.StatusCode.FAILED_PRECONDITION


async def test_one_node_takes_only_so_much() -> None:
    asking = Asking()
    asking.store.gate = asyncio.Event()
    under_way = [asyncio.create_task(asking.ask(FIND, KEY.id.encode())) for _ in range(256)]
    await asyncio.sleep(0)
    assert await asking.refused() is grpc.StatusCode.RESOURCE_EXHAUSTED
    asking.store.gate.set()
    await asyncio.gather(*under_way)
    await asking.ask(FIND, KEY.id.encode())


async def test_where_no_node_is_to_ask() -> None:
    assert await Asking("{certificate: {}}").refused() is grpc.StatusCode.PERMISSION_DENIED
    elsewhere = Asking()
    elsewhere.plane.inputs.credential_store = "postgresql://db.example/credentials"
    assert await elsewhere.refused() is grpc.StatusCode.PERMISSION_DENIED


async def test_who_was_put_out_gets_nothing() -> None:
    asking = Asking()
    await asking.ask(FIND, KEY.id.encode())
    asking.nodes.evict("edge-1")
    assert await asking.refused() is grpc.StatusCode.UNAUTHENTICATED
    assert await asking.refused(CHANGES, b"") is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("uris", "late", "code"),
    [
        ((), False, grpc.StatusCode.UNAUTHENTICATED),
        (None, True, grpc.StatusCode.UNAUTHENTICATED),
        (("spiffe://cluster.local/isthmus/node/b",), False, grpc.StatusCode.UNAUTHENTICATED),
        ((NODE, "spiffe://cluster.local/isthmus/node/b"), False, grpc.StatusCode.UNAUTHENTICATED),
        (("spiffe://cluster.local/ns/shop/sa/orders",), False, grpc.StatusCode.UNAUTHENTICATED),
        (("spiffe://td2.example/isthmus/node/edge-1",), False, grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_who_is_no_node_gets_nothing(uris: tuple[str, ...] | None, late: bool, code: grpc.StatusCode) -> None:
    asking = Asking()
    if late:
        asking.now = NOW + 48 * HOUR
    with pytest.raises(Aborted) as refused:
        await asking.ask(FIND, KEY.id.encode(), uris)
    assert refused.value.code is code
