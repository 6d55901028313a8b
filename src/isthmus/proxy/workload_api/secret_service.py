"""SDS for Envoys that are not ours, on the socket of the Workload API and attested in the same way.

Source: Envoy, SecretDiscoveryService; the names of secrets are SPIRE's (doc/spire_agent.md, "SDS configuration").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Method
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from isthmus.envoy_api.packages import discovery_v3
from isthmus.errors import NotEnrolled
from isthmus.proxy.sds import SERVICE
from isthmus.proxy.sds_stream import DeltaStream, Refused, SdsStream, Secrets, WholeStream
from isthmus.proxy.workload_api.caller import Peer
from isthmus.proxy.workload_api.entitlement import Entitlement
from isthmus.proxy.workload_api.offer import secrets
from isthmus.proxy.workload_api.service import Workloads

_log = logging.getLogger(__name__)
Call = Stream[Any, Any]


class SecretService:
    """StreamSecrets and DeltaSecrets."""

    def __init__(self, workloads: Workloads) -> None:
        self._workloads = workloads

    def methods(self, peer: Peer) -> Mapping[str, Method]:
        whole = partial(self._serve, peer, WholeStream)
        delta = partial(self._serve, peer, DeltaStream)
        requests = discovery_v3.DiscoveryRequest, discovery_v3.DiscoveryResponse
        deltas = discovery_v3.DeltaDiscoveryRequest, discovery_v3.DeltaDiscoveryResponse
        return {
            f"/{SERVICE}/StreamSecrets": Method(whole, Cardinality.STREAM_STREAM, *requests),
            f"/{SERVICE}/DeltaSecrets": Method(delta, Cardinality.STREAM_STREAM, *deltas),
        }

    async def _serve(self, peer: Peer, make: Callable[[Refused], SdsStream], call: Call) -> None:
        def refused(names: str, why: str) -> None:
            _log.error("an Envoy (process %d) refused the secret %s: %s", peer.pid, names, why)

        stream = make(refused)
        await self._secrets(peer)
        # One writer at a time: the order of nonces is the order on the wire.
        writing = asyncio.Lock()

        async def follow() -> None:
            async for _ in self._workloads.offer:
                found = await self._secrets(peer)
                async with writing:
                    for response in stream.publish(found):
                        await call.send_message(response)

        async def answer() -> None:
            async for request in call:
                found = await self._secrets(peer)
                async with writing:
                    for response in stream.receive(request, found):
                        await call.send_message(response)

        parts = {asyncio.create_task(follow()), asyncio.create_task(answer())}
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _secrets(self, peer: Peer) -> Secrets:
        """What this Envoy may have now. Raises GRPCError: nothing (any more)."""
        try:
            entitled: Sequence[Entitlement] = await self._workloads.entitlements(peer)
        except NotEnrolled as gone:
            raise GRPCError(Status.PERMISSION_DENIED, str(gone)) from gone
        if not entitled:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        offer = self._workloads.offer.value
        if not offer.trust:
            raise GRPCError(Status.UNAVAILABLE, "not ready yet: no trust bundle")
        self._workloads.want(entitled)
        return secrets(offer, entitled)
