"""JWT-SVIDs over gRPC, for node agents: mutual TLS, and for what one of the node's own workloads may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from isthmus.errors import CsrRejected, IsthmusError, NotEnrolled, SvidInvalid
from isthmus.identity.authority import Authority
from isthmus.identity.enrolment import NotAssigned
from isthmus.identity.jwt_keys import JwtKeys
from isthmus.identity.jwt_svid import mint
from isthmus.identity.pace import Pace, TooFast, tokens_pace
from isthmus.identity.server import REFUSED_FOR_PACE, Ledger, Nodes, status_of
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import peer_identity
from isthmus.identity.workload_wire import message
from isthmus.latest import Latest
from isthmus.model.offer import LOCAL_NODE

SERVICE = "isthmus.v1.JwtAuthority"
FETCH = "FetchJWTSVID"
FETCH_PATH = f"/{SERVICE}/{FETCH}"
"""The Workload API's JWTSVIDRequest and JWTSVIDResponse, between a node and the control plane. (Ours.)"""


class JwtAssignments(Protocol):
    """What the compiled mesh lets a node's workloads have."""

    def jwt_ttl(self, node: str, spiffe_id: SpiffeId, audiences: tuple[str, ...]) -> timedelta | None:
        """How long a JWT-SVID for these audiences lives; None: no workload of this node may have one."""
        ...


@dataclass(frozen=True, slots=True)
class JwtService:
    """Answers FetchJWTSVID for nodes."""

    keys: Latest[JwtKeys]
    authority: Latest[Authority]
    assignments: JwtAssignments
    clock: Callable[[], datetime]
    ledger: Ledger | None = None
    nodes: Nodes | None = None
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    pace: Pace = field(default_factory=tokens_pace)
    """Of other machines."""

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(SERVICE, {FETCH: grpc.unary_unary_rpc_method_handler(self.fetch)})

    async def fetch(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """The gRPC method: an encoded JWTSVIDRequest in, an encoded JWTSVIDResponse with one SVID out."""
        try:
            return self.answer(request, next(iter(context.auth_context().get("x509_pem_cert", ())), b""))
        except IsthmusError as error:
            code, details = status_of(error)
            if isinstance(error, TooFast):
                self.counts[REFUSED_FOR_PACE, "token"] += 1
        await context.abort(code, details)
        raise AssertionError("abort returned")

    def answer(self, request: bytes, peer: bytes) -> bytes:
        """For the node with the certificate ``peer`` (PEM, verified by the handshake; empty: none)."""
        now = self.clock()
        node = self._node(peer, now)
        try:
            wish = message("JWTSVIDRequest").FromString(request)
        except DecodeError:
            raise CsrRejected("not a JWTSVIDRequest") from None
        wanted, authority, audiences = SpiffeId.parse(wish.spiffe_id), self.authority.value, tuple(wish.audience)
        # Whatever the manifests say: no workload is a node, or the control plane, or of another trust domain.
        reserved = wanted.node_name is not None or wanted == authority.control_plane_id
        ttl = None
        if not reserved and wanted.trust_domain == authority.trust_domain:
            ttl = self.assignments.jwt_ttl(node, wanted, audiences)
        if self.ledger is not None:
            self.ledger.check(wanted)
        if ttl is None:
            raise NotAssigned(f"the node {node} has no workload with the identity {wanted} for these audiences")
        try:
            made = mint(self.keys.value.signing(now), wanted, audiences, ttl, now)
        except SvidInvalid as wrong:
            raise CsrRejected(str(wrong)) from wrong
        svid = message("JWTSVID")(spiffe_id=wanted.uri, svid=made.token)
        answer: bytes = message("JWTSVIDResponse")(svids=[svid]).SerializeToString()
        return answer

    def _node(self, peer: bytes, now: datetime) -> str:
        try:
            caller = peer_identity(peer, now)
        except SvidInvalid as error:
            raise NotEnrolled(f"the client certificate is no identity: {error}") from error
        if caller.node_name is None or caller.trust_domain != self.authority.value.trust_domain:
            raise NotAssigned(f"{caller} is not a node of this mesh")
        if self.nodes is not None and caller.node_name != LOCAL_NODE:
            self.nodes.check(caller.node_name, peer)
        if self.ledger is not None:
            self.ledger.check_certificate(peer)
        if caller.node_name != LOCAL_NODE:
            self.pace.take(caller.node_name, now)
        return caller.node_name
