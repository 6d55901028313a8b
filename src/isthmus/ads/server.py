"""ADS over gRPC, incremental or state of the world: one stream object for each Envoy that connects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

import grpc
import grpc.aio

from isthmus.ads.leaving import LINGER
from isthmus.ads.status import Statuses
from isthmus.ads.stream import Stream
from isthmus.ads.throttle import Throttle
from isthmus.ads.whole import WholeStream
from isthmus.envoy_api.packages import discovery_v3
from isthmus.errors import NotEnrolled
from isthmus.latest import Latest
from isthmus.xds.snapshot import Snapshot

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"

KEEPALIVE_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.server_max_unrequested_time_in_server", 600),
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
)
"""For the gRPC server: an Envoy that is gone is noticed in 40 s, and Envoys may ping as often as they like.

A thousand that connect at once wait for their turn: by default gRPC turns streams away at random when a thousand wait,
and cancels those that have waited for 30 s.

Message sizes are the caller's: responses have no limit unless ``grpc.max_send_message_length`` sets one, requests end
at 4 MiB unless ``grpc.max_receive_message_length`` says otherwise.
"""

_log = logging.getLogger(__name__)


AnyStream = Stream | WholeStream


def steady_clock() -> Callable[[], datetime]:
    """The time of day as it was when this was called, and from then on as long as it really took.

    Deadlines of a stream must not come early, or never, because somebody set the clock.
    """
    began, since = datetime.now(UTC), time.monotonic()
    return lambda: began + timedelta(seconds=time.monotonic() - since)


class Snapshots(Protocol):
    """Where the server gets what each proxy should have."""

    def acquire(self, proxy_id: str) -> Latest[Snapshot]:
        """The proxy's snapshot, kept up to date until :meth:`release`. Raises NotEnrolled for an unknown proxy."""

    def release(self, proxy_id: str) -> None:
        """One :meth:`acquire` of this proxy is over."""


class Authorize(Protocol):
    def __call__(self, peer_pem: bytes | None, node_id: str) -> None:
        """Raise NotEnrolled unless the peer may be the proxy ``node_id``; None is a peer without a certificate."""


class AdsServer:
    """Serves ``DeltaAggregatedResources``, and ``StreamAggregatedResources`` to Envoys that others configure.

    A second connection of a proxy takes the place of its first.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        authorize: Authorize,
        statuses: Statuses,
        clock: Callable[[], datetime] | None = None,
        counts: Counter[tuple[str, ...]] | None = None,
        linger: timedelta = LINGER,
    ) -> None:
        """``clock`` may not go backwards; without one, :func:`steady_clock`. ``linger``: see :class:`Stream`."""
        self._counts: Counter[tuple[str, ...]] = counts if counts is not None else Counter()
        self._linger = linger
        self._snapshots = snapshots
        self._authorize = authorize
        self._statuses = statuses
        self._clock = clock or steady_clock()
        self._sessions: dict[str, _Session] = {}
        self._uncertain: dict[str, Mapping[str, frozenset[str]]] = {}
        self._throttle = Throttle()

    def end(self, proxy_id: str) -> None:
        """Close the stream of a proxy, if it has one: when it connects again, it is asked again whether it may."""
        session = self._sessions.get(proxy_id)
        if session is not None:
            session.end()

    def handler(self) -> grpc.GenericRpcHandler:
        """For ``server.add_generic_rpc_handlers``. Responses are bytes already: they have no serializer."""
        delta = grpc.stream_stream_rpc_method_handler(
            self._delta, request_deserializer=discovery_v3.DeltaDiscoveryRequest.FromString
        )
        whole = grpc.stream_stream_rpc_method_handler(
            self._whole, request_deserializer=discovery_v3.DiscoveryRequest.FromString
        )
        methods = {"DeltaAggregatedResources": delta, "StreamAggregatedResources": whole}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _delta(self, _: object, context: Any) -> None:
        await self._serve(context, self._delta_stream)

    async def _whole(self, _: object, context: Any) -> None:
        await self._serve(context, self._whole_stream)

    def _delta_stream(self, proxy_id: str, snapshot: Snapshot) -> Stream:
        # Names that stay uncertain outlive a stream that never got so far as to settle them.
        uncertain = self._uncertain.pop(proxy_id, MappingProxyType({}))
        return Stream(proxy_id, snapshot, self._clock(), uncertain, self._counts, self._linger)

    def _whole_stream(self, proxy_id: str, snapshot: Snapshot) -> WholeStream:
        self._uncertain.pop(proxy_id, None)
        return WholeStream(proxy_id, snapshot, self._clock(), self._counts, self._linger)

    async def _serve(self, context: Any, make: Callable[[str, Snapshot], AnyStream]) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        proxy_id = first.node.id
        try:
            self._authorize(_peer_pem(context), proxy_id)
            latest = self._snapshots.acquire(proxy_id)
        except NotEnrolled as refused:
            _log.warning("ADS: %s may not connect as %r: %s", context.peer(), proxy_id, refused)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this peer may not be the proxy that it says it is")
            return
        try:
            await self._run(make, proxy_id, latest, first, context)
        finally:
            self._snapshots.release(proxy_id)

    async def _run(
        self,
        make: Callable[[str, Snapshot], AnyStream],
        proxy_id: str,
        latest: Latest[Snapshot],
        first: Any,
        context: Any,
    ) -> None:
        replaced = self._sessions.get(proxy_id)
        if replaced is not None:
            _log.info("ADS: %s connected again; its earlier stream ends", proxy_id)
            replaced.end()
            self._uncertain[proxy_id] = replaced.stream.uncertain()
        stream = make(proxy_id, latest.value)
        session = _Session(stream, latest, context, self._statuses, self._clock, self._throttle)
        self._sessions[proxy_id] = session
        _log.info("ADS: %s connected", proxy_id)
        try:
            await session.run(first)
        finally:
            if self._sessions.get(proxy_id) is session:
                del self._sessions[proxy_id]
                self._statuses.drop(proxy_id)
                if left := stream.uncertain():
                    self._uncertain[proxy_id] = left
                _log.info("ADS: %s disconnected", proxy_id)
        if session.ended:
            await context.abort(grpc.StatusCode.ABORTED, "the proxy connected again")


class _Session:
    """One open stream: a reader, a writer, and a follower that tells the writer of new snapshots.

    A snapshot is taken up, and a request read, only when everything before it is written: a slow Envoy gets the newest
    snapshot, not all of them, and one that asks without reading fills no memory.
    """

    def __init__(
        self,
        stream: AnyStream,
        latest: Latest[Snapshot],
        context: Any,
        statuses: Statuses,
        clock: Callable[[], datetime],
        throttle: Throttle,
    ) -> None:
        self.stream = stream
        self.ended = False
        self._latest = latest
        self._seen = latest.version
        self._context = context
        self._statuses = statuses
        self._clock = clock
        self._throttle = throttle
        self._outgoing: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._end = asyncio.Event()
        self._refusals: frozenset[tuple[str, str, str]] = frozenset()

    def end(self) -> None:
        """Another stream took the place of this one."""
        self.ended = True
        self._end.set()

    async def run(self, first: Any) -> None:
        """Serve until the proxy or :meth:`end` closes the stream."""
        tasks = [
            asyncio.create_task(part) for part in (self._read(first), self._write(), self._follow(), self._end.wait())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, request: Any) -> None:
        while request is not grpc.aio.EOF:
            self._send(self.stream.receive(request, self._clock()))
            await self._written.wait()
            request = await self._context.read()

    async def _follow(self) -> None:
        version = self._seen
        while True:
            version, _ = await self._latest.after(version)
            self._wake.set()

    async def _write(self) -> None:
        while True:
            while self._outgoing:
                await self._throttle.write(self._context.write, self._outgoing.popleft())
            self._written.set()
            if self._latest.version != self._seen:
                self._seen = self._latest.version
                self._send(self.stream.publish(self._latest.value, self._clock()))
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Sleep until there is something to write or a deadline has come."""
        deadline = self.stream.next_deadline
        seconds = None if deadline is None else max(0.0, (deadline - self._clock()).total_seconds())
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            self._send(self.stream.tick(self._clock()))
        self._wake.clear()

    def _send(self, responses: list[bytes]) -> None:
        self._outgoing.extend(responses)
        if responses:
            self._written.clear()
        self._wake.set()
        if self.ended:
            return
        status = self.stream.status()
        self._statuses.put(status)
        refusals = frozenset((refusal.type_url, refusal.name, refusal.version) for refusal in status.refusals)
        for refusal in status.refusals:
            if (refusal.type_url, refusal.name, refusal.version) not in self._refusals:
                _log.error("%s: %s (`isthmus proxies` tells why)", status.proxy_id, refusal.subject)
        self._refusals = refusals


def _peer_pem(context: Any) -> bytes | None:
    """The certificate that the peer proved at the TLS handshake: PEM, the leaf alone."""
    found = context.auth_context().get("x509_pem_cert")
    return bytes(next(iter(found))) if found else None
