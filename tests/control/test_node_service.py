from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar, NoReturn

import grpc
import pytest

from isthmus.control.node_service import NodeService
from isthmus.control.nodes import Health
from isthmus.identity.pace import Pace
from isthmus.identity.wire import FOLLOW_PATH
from isthmus.model.offer import offer_to_json

from .making import plane_of
from .test_admission import Desk, csr
from .test_nodes import EDGE
from .test_remote import GROUP, MESH


class Aborted(Exception):
    pass


class Context:
    """A node's stream that says one thing; ``meanwhile`` happens before it does."""

    def __init__(self, leaf: str, meanwhile: Callable[[], object]) -> None:
        self._leaf = leaf
        self._meanwhile = meanwhile

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._leaf.encode()]}

    def peer(self) -> str:
        return "ipv4:10.0.0.2:40000"

    async def read(self) -> bytes:
        self._meanwhile()
        return json.dumps({"offer": offer_to_json(EDGE)}).encode()

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise Aborted(code, details)


class Call:
    method = FOLLOW_PATH
    invocation_metadata = ()


async def test_who_was_put_out_while_it_said_nothing_is_not_the_machine_that_came_after() -> None:
    desk = Desk()
    first = desk.admission.enrol(desk.invited().token, csr(), "10.0.0.2")

    def meanwhile() -> None:
        desk.admission.evict("edge-1")
        desk.admission.enrol(desk.invited().token, csr(), "10.0.0.9")

    plane = plane_of(MESH, GROUP)
    plane.rebuild()
    method = NodeService(plane, desk.nodes, desk.clock).handler().service(Call()).stream_stream
    with pytest.raises(Aborted) as refused:
        await method(None, Context(first[0], meanwhile))
    assert refused.value.args[0] is grpc.StatusCode.UNAUTHENTICATED
    assert desk.nodes.offers == {}


class Chatty(Context):
    """It says that it is well, again and again."""

    said = 0

    async def read(self) -> bytes:
        self.said += 1
        if self.said == 1:
            return await super().read()
        return json.dumps({"health": {"healthy": self.said % 2 == 0, "reason": ""}}).encode()

    async def write(self, message: bytes) -> None:
        return


async def test_a_node_that_talks_without_end_is_cut_off_and_counted() -> None:
    desk = Desk()
    leaf = desk.admission.enrol(desk.invited().token, csr(), "10.0.0.2")[0]
    plane = plane_of(MESH, GROUP)
    plane.rebuild()
    counts: Counter[tuple[str, ...]] = Counter()
    service = NodeService(plane, desk.nodes, desk.clock, counts, Pace("messages", 20, 0.1))
    method = service.handler().service(Call()).stream_stream
    context = Chatty(leaf, lambda: None)
    with pytest.raises(Aborted) as refused:
        await method(None, context)
    assert refused.value.args == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the node edge-1 asks too fast: 20 messages at once, 0.1 a second",
    )
    assert context.said == 21
    assert not desk.nodes.connected("edge-1")
    with pytest.raises(Aborted) as again:
        await method(None, Context(leaf, lambda: None))
    assert again.value.args[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert counts == {("isthmus_node_requests_refused_total", "message"): 2}


class Odd(Context):
    """What no agent of ours says, one after the other; ``meanwhile`` happens before each of it."""

    said: ClassVar[Sequence[bytes]] = (
        b'{"health": {"healthy": false, "reason": "\\u001b[2J\\ud800 down"}}',
        b'{"look": {"id": Infinity, "text": ""}}',
        b'{"health": ' + b"[" * 100_000,
        b"\xff",
        b"[]",
    )
    at = -1

    async def read(self) -> bytes:
        self.at += 1
        first = await super().read()
        if self.at == 0:
            return first
        if self.at > len(self.said):
            raise Said
        return self.said[self.at - 1]

    async def write(self, message: bytes) -> None:
        return


class Said(Exception):
    pass


async def test_what_a_machine_says_of_itself_is_printable_and_ends_nothing() -> None:
    desk = Desk()
    leaf = desk.admission.enrol(desk.invited().token, csr(), "10.0.0.2")[0]
    plane = plane_of(MESH, GROUP)
    plane.rebuild()
    heard = []

    def meanwhile() -> None:
        heard.append(desk.nodes.members["edge-1"].health)

    method = NodeService(plane, desk.nodes, desk.clock).handler().service(Call()).stream_stream
    with pytest.raises(Said):
        await method(None, Odd(leaf, meanwhile))
    assert heard == [None, None, *[Health(False, "?[2J? down")] * 5]
