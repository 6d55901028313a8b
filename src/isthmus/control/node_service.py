"""Other machines over gRPC: each holds one stream open, tells what it carries and how that is, and gets its plan.

Messages are JSON objects, one a message. From the node: ``{"offer": …}`` first, then ``{"health": {"healthy": bool,
"reason": text}}``, ``{"leaving": true}`` and ``{"statistics": {"id": …, "text": …}}`` as it comes. To the node:
``{"plan": …}`` whenever it changes, and ``{"statistics": {"id": …, "proxy": …}}``, a question. ``look`` is one more,
with ``"known"``, the digest of the last answer; its text is what ``proxy/look.py`` packs.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc
import grpc.aio
from cryptography import x509

from isthmus.control.control_plane import ControlPlane
from isthmus.control.nodes import QUESTIONS, Health, Nodes, Session
from isthmus.control.remote import entry
from isthmus.errors import NotEnrolled, Refused, SvidInvalid
from isthmus.identity.pace import Pace, TooFast, messages_pace
from isthmus.identity.server import REFUSED_FOR_PACE
from isthmus.identity.validate import peer_identity
from isthmus.identity.wire import FOLLOW, NODE_SERVICE
from isthmus.model.offer import Offer, SidecarOffer, offer_from_json
from isthmus.proxy.plan import to_json

_LONGEST_REASON = 300
_log = logging.getLogger(__name__)


class NodeService:
    """Answers ``Follow``. Who asks is the node that its certificate names, whatever it says."""

    def __init__(
        self,
        plane: ControlPlane,
        nodes: Nodes,
        clock: Callable[[], datetime],
        counts: Counter[tuple[str, ...]] | None = None,
        pace: Pace | None = None,
    ) -> None:
        """``counts``: of the metrics. ``pace``: how fast one node may speak, whatever it connects for."""
        self._counts = counts if counts is not None else Counter()
        self._pace = pace if pace is not None else messages_pace()
        self._plane = plane
        self._nodes = nodes
        self._clock = clock

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.stream_stream_rpc_method_handler(self._follow)
        return grpc.method_handlers_generic_handler(NODE_SERVICE, {FOLLOW: method})

    async def _follow(self, _: object, context: Any) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        try:
            # Not before: who was put out while it had nothing to say is not what another machine became under its name.
            node = self._caller(context)
        except NotEnrolled as refused:
            _log.warning("node at %s: %s", context.peer(), refused)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(refused))
        try:
            self._take(node)
            session = self._nodes.begin(node, self._offer(node, first), _host(context.peer()))
        except TooFast as refused:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refused))
        except (ValueError, Refused) as wrong:
            _log.warning("node %s: %s", node, wrong)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(wrong)[:_LONGEST_REASON])
        _log.info("node %s connected from %s", node, context.peer())
        try:
            await self._serve(session, context)
        except TooFast as refused:
            _log.warning("node %s: %s", node, refused)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refused))
        finally:
            self._nodes.end(session)
            _log.info("node %s disconnected", node)
        if session.ended.value is not None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, session.ended.value)

    def _take(self, node: str) -> None:
        """Raises TooFast."""
        try:
            self._pace.take(node, self._clock())
        except TooFast:
            self._counts[REFUSED_FOR_PACE, "message"] += 1
            raise

    def _caller(self, context: Any) -> str:
        """The node's name. Raises NotEnrolled."""
        pem = bytes(next(iter(context.auth_context().get("x509_pem_cert", ())), b""))
        try:
            caller = peer_identity(pem, self._clock())
        except SvidInvalid as invalid:
            raise NotEnrolled(str(invalid)) from invalid
        if caller.node_name is None or caller.trust_domain != self._plane.mesh.settings.trust_domain:
            raise NotEnrolled(f"{caller} is not a node of this mesh")
        self._nodes.check(caller.node_name, pem)
        serial = x509.load_pem_x509_certificate(pem).serial_number
        if serial in self._plane.inputs.revoked_certificates:
            raise NotEnrolled(f"the certificate {serial:x} was revoked")
        return caller.node_name

    def _offer(self, node: str, first: bytes) -> Offer:
        """Raises ValueError or Refused."""
        message = json.loads(first)
        offer = offer_from_json(message.get("offer") if isinstance(message, dict) else None)
        if isinstance(offer, SidecarOffer):
            entry(node, offer)
            if offer.group is not None and f"{offer.namespace}/{offer.group}" not in self._plane.mesh.workload_groups:
                raise Refused(f"there is no WorkloadGroup {offer.namespace}/{offer.group}")
        return offer

    async def _serve(self, session: Session, context: Any) -> None:
        parts = (self._read(session, context), self._write(session, context), _ended(session))
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, session: Session, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            self._take(session.node)
            try:
                message = json.loads(request)
                if "health" in message:
                    health = message["health"]
                    self._nodes.reported(session, Health(health["healthy"] is True, _printable(str(health["reason"]))))
                for about in QUESTIONS:
                    if about in message:
                        self._nodes.answered(session, int(message[about]["id"]), message[about]["text"])
                if message.get("leaving") is True:
                    self._nodes.leave(session)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                _log.warning("node %s: a message that cannot be read", session.node)

    async def _write(self, session: Session, context: Any) -> None:
        writing = asyncio.Lock()

        async def send(message: dict[str, Any]) -> None:
            async with writing:
                await context.write(json.dumps(message).encode())

        async def ask() -> None:
            while True:
                await send(await session.questions.get())

        async def plan() -> None:
            async for plan in self._plane.node_plan(session.node):
                if plan is not None:
                    await send({"plan": to_json(plan)})

        await asyncio.gather(ask(), plan())


async def _ended(session: Session) -> None:
    async for why in session.ended:
        if why is not None:
            return


def _host(peer: str) -> str:
    """Of gRPC's ``ipv4:10.0.0.2:41234``, ``ipv6:%5B::1%5D:41234``: the address alone."""
    _, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "") or rest


def _printable(reason: str) -> str:
    """A machine's own words, as they go to terminals and into JSON: without control characters and broken text."""
    return "".join(one if one.isprintable() else "?" for one in reason[:_LONGEST_REASON])
