"""The certificate service over gRPC: who asks, may they, and the answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import grpc
import grpc.aio
from cryptography import x509

from isthmus.errors import CsrRejected, IsthmusError, NotEnrolled, Refused, SpiffeIdInvalid, SvidInvalid
from isthmus.identity.authority import DEFAULT_TTL, MAX_TTL, Authority, KeyedSvid
from isthmus.identity.enrolment import JoinTokens, NotAssigned
from isthmus.identity.pace import Pace, TooFast, certificates_pace, identity_pace
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import Csr, peer_identity, read_csr
from isthmus.identity.wire import CREATE_CERTIFICATE, SERVICE, CertificateRequest, CertificateResponse
from isthmus.latest import Latest
from isthmus.model.offer import LOCAL_NODE

Clock = Callable[[], datetime]

REFUSED_FOR_PACE = "isthmus_node_requests_refused_total"
"""A metric: what nodes asked too fast for."""
_DETAILS_MAX = 500
_FAILURES = dict.fromkeys(
    (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED), "citadel_server_authentication_failure_count"
)


class Assignments(Protocol):
    """Which node runs what: the compiled mesh knows."""

    def may_hold(self, node: str, spiffe_id: SpiffeId) -> bool:
        """Does a proxy of this node have this identity?"""
        ...

    def longest(self, node: str, spiffe_id: SpiffeId) -> timedelta:
        """How long a certificate of another machine may live, whatever it wishes: its own, or of what it may hold."""
        ...

    def may_serve(self, node: str, dns_names: tuple[str, ...]) -> bool:
        """Does a gateway of this node want a development certificate of exactly these names?"""
        ...


class Nodes(Protocol):
    """Who was let in, and which certificates each was given."""

    def check(self, name: str, peer: bytes) -> None:
        """Raises NotEnrolled unless the certificate (PEM, verified) of the node still counts."""
        ...

    def certified(self, node: str, identity: str, leaf: str) -> None:
        """A certificate (PEM) was made for a node, or for one of its proxies; asked before it leaves."""
        ...


class Ledger(Protocol):
    """What is remembered of what was signed, and of what must not be."""

    def check(self, spiffe_id: SpiffeId) -> None:
        """Raises NotAssigned: the identity was revoked."""
        ...

    def check_certificate(self, peer: bytes) -> None:
        """Raises NotEnrolled: this certificate (PEM, verified by the handshake) was revoked."""
        ...

    def note(self, expires: datetime) -> None:
        """Something was signed that ends then; asked before it leaves."""
        ...


@dataclass(frozen=True, slots=True)
class CertificateService:
    """Answers CreateCertificate.

    A caller without a certificate (on the enrolment socket) shows a join token and gets the SVID of that token's node.
    A caller with one (mutual TLS) must be a node; it gets the SVID of a proxy assigned to it, a development
    certificate for its gateway, or its own SVID again. What the request for a signature names plays no part.
    """

    authority: Latest[Authority]
    """Set anew when the intermediate is renewed; takes effect at once."""
    assignments: Assignments
    tokens: JoinTokens
    clock: Clock
    ttl: timedelta = DEFAULT_TTL
    """For requests that state no validity."""
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    ledger: Ledger | None = None
    nodes: Nodes | None = None
    """Of other machines; None: there are none."""
    pace: Pace = field(default_factory=certificates_pace)
    """Of other machines; the agent of our own is part of us."""
    _of_one: dict[timedelta, Pace] = field(default_factory=dict, init=False, repr=False)
    """Of one identity at one of them, by the longest life that its certificates have there."""

    async def create_certificate(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """The gRPC method: an encoded IstioCertificateRequest in, an encoded IstioCertificateResponse out."""
        self.counts["citadel_server_csr_count",] += 1
        try:
            pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
            if pem is None:
                answer = self.enrol(request, _bearer_token(context.invocation_metadata() or ()))
            else:
                answer = self.answer(request, pem)
        except IsthmusError as error:
            code, details = status_of(error)
            if isinstance(error, TooFast):
                self.counts[REFUSED_FOR_PACE, "certificate"] += 1
            self.counts[_FAILURES.get(code, "citadel_server_csr_sign_err_count"),] += 1
        else:
            self.counts["citadel_server_success_cert_issuance_count",] += 1
            return answer
        await context.abort(code, details)
        raise AssertionError("abort returned")

    def enrol(self, request: bytes, token: str | None) -> bytes:
        """The first SVID of a node, for its join token, which is used up whatever comes of the request."""
        now = self.clock()
        if token is None:
            raise NotEnrolled("neither a client certificate nor a join token")
        node = self.tokens.redeem(token, now)
        wish = CertificateRequest.decode(request)
        if wish.impersonated_identity is not None or wish.server_names:
            raise NotAssigned(f"a join token gives the node {node} its own identity, and no other")
        return self._issue(wish, SpiffeId.node(self.authority.value.trust_domain, node), node, now)

    def answer(self, request: bytes, peer: bytes) -> bytes:
        """What the node with the certificate ``peer`` (PEM, verified by the handshake) asks for."""
        now = self.clock()
        node_id = self._node_id(peer, now)
        node = node_id.node_name or ""
        if node != LOCAL_NODE:
            self.pace.take(node, now)
        wish = CertificateRequest.decode(request)
        if wish.impersonated_identity is not None and wish.server_names:
            raise CsrRejected("a certificate is for a workload or for a server, not for both")
        if wish.server_names:
            return self._issue_server(wish, node, now)
        if wish.impersonated_identity is None:
            return self._issue(wish, node_id, node, now)
        wanted = SpiffeId.parse(wish.impersonated_identity)
        authority = self.authority.value
        # Whatever the manifests say: no proxy is a node, or the control plane, or of another trust domain.
        reserved = wanted.node_name is not None or wanted == authority.control_plane_id
        if reserved or wanted.trust_domain != authority.trust_domain or not self.assignments.may_hold(node, wanted):
            raise NotAssigned(f"the node {node} runs no proxy with the identity {wanted}")
        return self._issue(wish, wanted, node, now)

    def _node_id(self, peer: bytes, now: datetime) -> SpiffeId:
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
        return caller

    def _issue(self, wish: CertificateRequest, spiffe_id: SpiffeId, node: str, now: datetime) -> bytes:
        authority = self.authority.value
        if self.ledger is not None:
            self.ledger.check(spiffe_id)
        ttl = self._ttl(wish)
        if node != LOCAL_NODE:
            # One that is evicted keeps what it has until it ends: it must not have chosen when.
            longest = self.assignments.longest(node, spiffe_id)
            self._of_one.setdefault(longest, identity_pace(longest)).take(f"{node} ({spiffe_id})", now)
            ttl = min(ttl, longest)
        svid = authority.issue(_csr(wish), spiffe_id, ttl, now)
        self._note(svid.expires)
        if self.nodes is not None and node != LOCAL_NODE:
            self.nodes.certified(node, spiffe_id.uri, svid.chain[0])
        return CertificateResponse((*svid.chain, "".join(authority.bundle.roots))).encode()

    def _issue_server(self, wish: CertificateRequest, node: str, now: datetime) -> bytes:
        if not self.assignments.may_serve(node, wish.server_names):
            raise NotAssigned(f"no gateway of the node {node} wants a certificate for {', '.join(wish.server_names)}")
        authority = self.authority.value
        certificate = authority.issue_server(_csr(wish), wish.server_names, self._ttl(wish), now)
        self._note(certificate.expires)
        return CertificateResponse((*certificate.chain, "".join(authority.bundle.roots))).encode()

    def _note(self, expires: datetime) -> None:
        if self.ledger is not None:
            self.ledger.note(expires)

    def _ttl(self, wish: CertificateRequest) -> timedelta:
        if wish.validity_seconds < 0:
            raise CsrRejected("a validity is not negative")
        # Cut before it becomes a timedelta: an int64 of seconds does not fit into one.
        seconds = min(wish.validity_seconds, int(MAX_TTL.total_seconds()))
        return timedelta(seconds=seconds) if seconds else self.ttl


def certificate_handlers(service: CertificateService) -> grpc.GenericRpcHandler:
    """The gRPC service around ``service``, for ``grpc.aio.Server.add_generic_rpc_handlers``. Bytes in, bytes out."""
    create = grpc.unary_unary_rpc_method_handler(service.create_certificate)
    return grpc.method_handlers_generic_handler(SERVICE, {CREATE_CERTIFICATE: create})


def status_of(error: IsthmusError) -> tuple[grpc.StatusCode, str]:
    """The gRPC status for what went wrong. What we did wrong ourselves is not told to the caller."""
    # Cut: details travel in a trailer, and a message may quote what the caller sent.
    details = str(error)[:_DETAILS_MAX]
    match error:
        case NotAssigned():
            return grpc.StatusCode.PERMISSION_DENIED, details
        case NotEnrolled():
            return grpc.StatusCode.UNAUTHENTICATED, details
        case CsrRejected() | SpiffeIdInvalid():
            return grpc.StatusCode.INVALID_ARGUMENT, details
        case TooFast():
            return grpc.StatusCode.RESOURCE_EXHAUSTED, details
        case Refused():
            return grpc.StatusCode.UNAVAILABLE, details
    return grpc.StatusCode.INTERNAL, "the certificate authority failed"


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What a server shows and trusts in a handshake. ``roots``: PEM, of our own trust domain only."""

    own: KeyedSvid
    roots: tuple[str, ...]


@dataclass(slots=True)
class ControlPlaneTls:
    """The control plane's own SVID: a new one, with a new key, at half life and when the authority is renewed.

    Called by gRPC's threads, a connection each.
    """

    authority: Latest[Authority]
    clock: Clock
    ttl: timedelta = DEFAULT_TTL
    beside: Callable[[], tuple[str, ...]] = tuple
    """Roots (PEM) of the same trust domain whose certificates somebody else gives to our proxies."""
    revoked: Callable[[], frozenset[int]] = frozenset
    """Serial numbers: one of its own among them is replaced, or no proxy would come back to it."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _made: tuple[TlsMaterial, datetime, Authority] | None = field(default=None, init=False, repr=False)
    _serial: int = field(default=0, init=False, repr=False)

    def __call__(self) -> TlsMaterial:
        with self._lock:
            authority, now = self.authority.value, self.clock()
            roots = (*authority.bundle.roots, *self.beside())
            known = self._made is not None and self._made[2] == authority and self._made[0].roots == roots
            known = known and self._serial not in self.revoked()
            if self._made is None or self._made[1] <= now or not known:
                own = authority.issue_control_plane(now, self.ttl)
                renewal = now + (own.svid.expires - now) / 2
                self._made = TlsMaterial(own, roots), renewal, authority
                self._serial = x509.load_pem_x509_certificate(own.svid.chain[0].encode()).serial_number
            return self._made[0]


def server_credentials(provider: Callable[[], TlsMaterial]) -> grpc.ServerCredentials:
    """Mutual TLS for a gRPC server: every client shows a certificate of the provider's roots.

    ``provider`` is asked at every new connection, in a thread of gRPC's. If it raises, gRPC logs that and shows what it
    showed last, which clients refuse once it has ended. Raises what the provider raises the first time.
    """
    first = provider()
    shown = [first]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        material = provider()
        if material is shown[0]:
            return None
        shown[0] = material
        return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(_configuration(first), fetch, require_client_authentication=True)


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    chain = "".join(material.own.svid.chain).encode()
    return grpc.ssl_server_certificate_configuration(
        [(material.own.key.pem, chain)], root_certificates="".join(material.roots).encode()
    )


def _csr(wish: CertificateRequest) -> Csr:
    return read_csr(wish.csr.encode())


def _bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ").strip()
    return None
