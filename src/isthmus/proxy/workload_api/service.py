"""SpiffeWorkloadAPI: SVIDs and bundles for the process that asks.

Source: SPIFFE Workload API, sections 3 to 6; SPIFFE Workload Endpoint, sections 4 to 6.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from google.protobuf.struct_pb2 import Struct
from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Method
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from isthmus.errors import CsrRejected, IsthmusError, NotEnrolled, SvidInvalid
from isthmus.identity.jwt_svid import MAX_AUDIENCES, JwtSvid, validate
from isthmus.identity.workload_wire import HEADER, SERVICE, message
from isthmus.latest import Latest
from isthmus.proxy.holder import now
from isthmus.proxy.workload_api.caller import Peer
from isthmus.proxy.workload_api.entitlement import Entitlement
from isthmus.proxy.workload_api.offer import Offer, jwt_bundles, x509_bundles, x509_svids

_FIRST_SECONDS = 10.0
"""How long a first answer may take: then it is Unavailable, and callers try again."""
_NOBODY = "no identity issued"
"""SPIRE's words, which people search for."""

Call = Stream[Any, Any]
Build = Callable[[Offer, Sequence[Entitlement]], Any | None]


class Workloads(Protocol):
    """What the service asks of the agent."""

    @property
    def offer(self) -> Latest[Offer]: ...

    async def entitlements(self, peer: Peer) -> Sequence[Entitlement]:
        """What this process may be now; none: nothing. Raises NotEnrolled: it has ended."""
        ...

    def want(self, entitled: Sequence[Entitlement]) -> None:
        """Get certificates for these; they will be in the offer."""
        ...

    async def token(self, identity: str, audiences: Sequence[str]) -> JwtSvid:
        """A JWT-SVID. Raises Unreachable, NotEnrolled or CsrRejected."""
        ...


class WorkloadApi:
    """The standard's five methods; those of WIT-SVIDs are Unimplemented, as it asks for."""

    def __init__(self, workloads: Workloads) -> None:
        self._workloads = workloads

    def methods(self, peer: Peer) -> Mapping[str, Method]:
        streams = {
            "FetchX509SVID": ("X509SVIDRequest", "X509SVIDResponse", self._fetch_x509_svid),
            "FetchX509Bundles": ("X509BundlesRequest", "X509BundlesResponse", self._fetch_x509_bundles),
            "FetchJWTBundles": ("JWTBundlesRequest", "JWTBundlesResponse", self._fetch_jwt_bundles),
        }
        calls = {
            "FetchJWTSVID": ("JWTSVIDRequest", "JWTSVIDResponse", self._fetch_jwt_svid),
            "ValidateJWTSVID": ("ValidateJWTSVIDRequest", "ValidateJWTSVIDResponse", self._validate_jwt_svid),
        }
        found: dict[str, Method] = {}
        for cardinality, methods in ((Cardinality.UNARY_STREAM, streams), (Cardinality.UNARY_UNARY, calls)):
            for name, (request, response, method) in methods.items():
                answer = partial(_answered, method, peer)
                found[f"/{SERVICE}/{name}"] = Method(answer, cardinality, message(request), message(response))
        return found

    async def _fetch_x509_svid(self, peer: Peer, call: Call) -> None:
        await _request(call)

        def build(offer: Offer, entitled: Sequence[Entitlement]) -> Any | None:
            self._workloads.want(entitled)
            return x509_svids(offer, entitled)

        await self._follow(peer, call, build)

    async def _fetch_x509_bundles(self, peer: Peer, call: Call) -> None:
        await _request(call)
        await self._follow(peer, call, lambda offer, _: x509_bundles(offer.trust) if offer.trust else None)

    async def _fetch_jwt_bundles(self, peer: Peer, call: Call) -> None:
        await _request(call)

        def build(offer: Offer, _: Sequence[Entitlement]) -> Any | None:
            found = jwt_bundles(offer.trust)
            return found if found.bundles else None

        await self._follow(peer, call, build)

    async def _follow(self, peer: Peer, call: Call, build: Build) -> None:
        """Every new state, for as long as the caller is somebody. Raises NotEnrolled when it is not (any more)."""
        offers, sent, version = self._workloads.offer, None, -1
        until = time.monotonic() + _FIRST_SECONDS
        while True:
            try:
                async with asyncio.timeout(None if sent is not None else max(until - time.monotonic(), 0)):
                    version, offer = await offers.after(version)
            except TimeoutError:
                raise GRPCError(Status.UNAVAILABLE, "not ready yet: the control plane has not answered") from None
            response = build(offer, await self._somebody(peer))
            if response is not None and response != sent:
                await call.send_message(response)
                sent = response

    async def _fetch_jwt_svid(self, peer: Peer, call: Call) -> None:
        request = await _request(call)
        audiences = tuple(dict.fromkeys(request.audience))
        if not 0 < len(audiences) <= MAX_AUDIENCES or not all(audiences):
            raise GRPCError(Status.INVALID_ARGUMENT, f"1 to {MAX_AUDIENCES} audiences, none of them empty")
        wanted = [one for one in await self._somebody(peer) if request.spiffe_id in ("", one.identity)]
        allowed = [one for one in wanted if one.may_ask_for(audiences)]
        if not allowed:
            raise NotEnrolled(f"{_NOBODY} for these audiences" if wanted else _NOBODY)
        response = message("JWTSVIDResponse")()
        for one in allowed:
            made = await self._workloads.token(one.identity, audiences)
            response.svids.add(spiffe_id=one.identity, svid=made.token, hint=one.hint)
        await call.send_message(response)

    async def _validate_jwt_svid(self, peer: Peer, call: Call) -> None:
        request = await _request(call)
        await self._somebody(peer)
        try:
            found = validate(request.svid, request.audience, self._workloads.offer.value.jwt_bundles(), now())
        except SvidInvalid as invalid:
            raise GRPCError(Status.INVALID_ARGUMENT, str(invalid)[:500]) from invalid
        claims = Struct()
        claims.update(dict(found.claims))
        response = message("ValidateJWTSVIDResponse")(spiffe_id=found.spiffe_id.uri)
        # Not by CopyFrom: the response's own pool has a class of its own for it.
        response.claims.ParseFromString(claims.SerializeToString())
        await call.send_message(response)

    async def _somebody(self, peer: Peer) -> Sequence[Entitlement]:
        found = await self._workloads.entitlements(peer)
        if not found:
            raise NotEnrolled(_NOBODY)
        return found


async def _request(call: Call) -> Any:
    """The call's one message. Raises GRPCError: the header that a workload sends is not there."""
    name, value = HEADER
    if call.metadata is None or call.metadata.get(name) != value:
        raise GRPCError(Status.INVALID_ARGUMENT, f"security header missing from request: {name}: {value}")
    request = await call.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "no request")
    return request


async def _answered(method: Callable[[Peer, Call], Awaitable[None]], peer: Peer, call: Call) -> None:
    """``method``, what it raises told as the standard says. What we did wrong ourselves is not told to the caller."""
    try:
        await method(peer, call)
    except GRPCError:
        raise
    except NotEnrolled as refused:
        raise GRPCError(Status.PERMISSION_DENIED, str(refused)) from refused
    except CsrRejected as refused:
        raise GRPCError(Status.PERMISSION_DENIED, str(refused)[:500]) from refused
    except IsthmusError as failed:
        raise GRPCError(Status.UNAVAILABLE, str(failed)[:500]) from failed
