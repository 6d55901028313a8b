"""Over real sockets: the enrolment socket and the port with mutual TLS."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.errors import IsthmusError, Refused, SvidInvalid
from isthmus.identity.authority import Authority, SigningKey, create_intermediate, create_root, private_key
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.pace import Pace, TooFast
from isthmus.identity.server import (
    CertificateService,
    ControlPlaneTls,
    certificate_handlers,
    server_credentials,
    status_of,
)
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import Csr, encoded_key, peer_identity
from isthmus.identity.wire import CREATE_CERTIFICATE_PATH, CertificateRequest, CertificateResponse
from isthmus.latest import Latest

from .making import DOMAIN, HOUR, NOW, leaf, make_authority, new_key, request_pem, uri
from .test_authority import openssl_verify

NODE = SpiffeId.node(DOMAIN, "local")
ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")
USERS = SpiffeId.workload(DOMAIN, "shop", "users")
CONTROL_PLANE_DNS = "isthmus.istio-system.svc"

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@dataclass
class Table:
    """Assignments from a table."""

    held: set[tuple[str, str]] = field(default_factory=lambda: {("local", ORDERS.uri)})
    served: set[tuple[str, tuple[str, ...]]] = field(default_factory=lambda: {("local", ("shop.example.com",))})

    def may_hold(self, node: str, spiffe_id: SpiffeId) -> bool:
        return (node, spiffe_id.uri) in self.held

    def may_serve(self, node: str, dns_names: tuple[str, ...]) -> bool:
        return (node, dns_names) in self.served

    def longest(self, node: str, spiffe_id: SpiffeId) -> timedelta:
        return HOUR


class Clock:
    """Real time to start with (TLS libraries look at the machine's own clock), then moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(NOW.tzinfo) + self.ahead


@dataclass
class ControlPlane:
    authority: Latest[Authority]
    root_key: SigningKey
    table: Table
    tokens: JoinTokens
    clock: Clock
    socket: str = ""
    port: int = 0

    @property
    def roots(self) -> bytes:
        return self.authority.value.bundle.roots[0].encode()

    @asynccontextmanager
    async def enrolment(self) -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
            yield channel

    @asynccontextmanager
    async def mutual(self, key: SigningKey | None, chain: bytes | None) -> AsyncIterator[grpc.aio.Channel]:
        credentials = grpc.ssl_channel_credentials(self.roots, private_key(key).pem if key else None, chain)
        options = [("grpc.ssl_target_name_override", CONTROL_PLANE_DNS), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            yield channel

    @asynccontextmanager
    async def as_peer(self, spiffe_id: SpiffeId) -> AsyncIterator[grpc.aio.Channel]:
        key = new_key()
        svid = self.authority.value.issue(Csr(key.public_key()), spiffe_id, HOUR, self.clock())
        async with self.mutual(key, "".join(svid.chain).encode()) as channel:
            yield channel


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        yield Path(short)


@pytest.fixture
async def control(folder: Path) -> AsyncIterator[ControlPlane]:
    clock = Clock()
    root, root_key = create_root(DOMAIN, clock())
    intermediate, key = create_intermediate(DOMAIN, root, root_key, clock())
    authority = Latest(Authority(DOMAIN, root, (intermediate,), key))
    control = ControlPlane(authority, root_key, Table(), JoinTokens(), clock, socket=str(folder / "enrol.sock"))
    service = CertificateService(authority, control.table, control.tokens, clock)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((certificate_handlers(service),))
    server.add_insecure_port(f"unix:{control.socket}")
    credentials = server_credentials(ControlPlaneTls(authority, clock))
    control.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield control
    finally:
        await server.stop(None)


async def create(
    channel: grpc.aio.Channel, request: CertificateRequest | bytes, token: str | None = None
) -> tuple[str, ...]:
    call = channel.unary_unary(CREATE_CERTIFICATE_PATH)
    metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
    data = request if isinstance(request, bytes) else request.encode()
    return CertificateResponse.decode(await call(data, metadata=metadata, timeout=10)).cert_chain


async def refusal(
    channel: grpc.aio.Channel, request: CertificateRequest | bytes, token: str | None = None
) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(channel, request, token)
    return caught.value.code(), caught.value.details() or ""


def whose(chain: tuple[str, ...]) -> SpiffeId:
    return peer_identity(chain[0].encode())


async def shown_certificate(port: int) -> str:
    """What the server shows a new connection."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)


def life_of(chain: tuple[str, ...]) -> datetime:
    return x509.load_pem_x509_certificate(chain[0].encode()).not_valid_after_utc


class TestEnrolment:
    async def test_a_token_gives_the_nodes_svid_whatever_the_request_names(
        self, control: ControlPlane, tmp_path: Path
    ) -> None:
        key = new_key()
        async with control.enrolment() as channel:
            token = control.tokens.issue("local", control.clock())
            chain = await create(channel, CertificateRequest(request_pem(key, ORDERS.uri), 600), token)
        assert whose(chain) == NODE
        made = x509.load_pem_x509_certificate(chain[0].encode())
        assert encoded_key(made.public_key()) == encoded_key(key.public_key())
        assert abs(made.not_valid_after_utc - control.clock() - timedelta(minutes=10)) < timedelta(seconds=5)
        assert len(chain) == 3
        assert chain[-1] == control.roots.decode()
        assert openssl_verify(tmp_path, chain[:-1], chain[-1], "sslclient", at=control.clock()) == "leaf.pem: OK"

    async def test_a_token_works_once_even_if_the_request_was_bad(self, control: ControlPlane) -> None:
        async with control.enrolment() as channel:
            token = control.tokens.issue("local", control.clock())
            assert (await refusal(channel, CertificateRequest("no request"), token))[0] is INVALID
            good = CertificateRequest(request_pem(new_key()))
            assert await refusal(channel, good, token) == (
                UNAUTHENTICATED,
                "the join token is unknown, used or expired",
            )

    async def test_nothing_without_a_token(self, control: ControlPlane) -> None:
        async with control.enrolment() as channel:
            for token in (None, "", "guess"):
                code, _ = await refusal(channel, CertificateRequest(request_pem(new_key())), token)
                assert code is UNAUTHENTICATED

    async def test_a_token_ends(self, control: ControlPlane) -> None:
        token = control.tokens.issue("local", control.clock())
        control.clock.ahead = timedelta(seconds=601)
        async with control.enrolment() as channel:
            assert (await refusal(channel, CertificateRequest(request_pem(new_key())), token))[0] is UNAUTHENTICATED

    @pytest.mark.parametrize("wish", [{"impersonated_identity": ORDERS.uri}, {"server_names": ("shop.example.com",)}])
    async def test_a_token_gives_nothing_else(self, control: ControlPlane, wish: dict[str, object]) -> None:
        token = control.tokens.issue("local", control.clock())
        async with control.enrolment() as channel:
            code, details = await refusal(channel, CertificateRequest(request_pem(new_key()), **wish), token)
        assert code is DENIED
        assert token not in details


class TestMutualTls:
    async def test_a_node_gets_its_proxys_identity(self, control: ControlPlane, tmp_path: Path) -> None:
        async with control.as_peer(NODE) as channel:
            wish = CertificateRequest(request_pem(new_key(), USERS.uri), 60, impersonated_identity=ORDERS.uri)
            chain = await create(channel, wish)
        assert whose(chain) == ORDERS
        assert openssl_verify(tmp_path, chain[:-1], chain[-1], "sslserver", at=control.clock()) == "leaf.pem: OK"

    async def test_a_node_renews_its_own(self, control: ControlPlane) -> None:
        async with control.as_peer(NODE) as channel:
            assert whose(await create(channel, CertificateRequest(request_pem(new_key())))) == NODE

    async def test_a_gateways_development_certificate(self, control: ControlPlane, tmp_path: Path) -> None:
        async with control.as_peer(NODE) as channel:
            chain = await create(
                channel, CertificateRequest(request_pem(new_key()), server_names=("shop.example.com",))
            )
        with pytest.raises(SvidInvalid):
            whose(chain)
        assert openssl_verify(tmp_path, chain[:-1], chain[-1], "sslserver", at=control.clock()) == "leaf.pem: OK"

    @pytest.mark.parametrize(
        "wanted",
        [
            USERS,
            SpiffeId.workload("other.example", "shop", "orders"),
            SpiffeId.node(DOMAIN, "other"),
            NODE,
            SpiffeId.workload(DOMAIN, "istio-system", "isthmus"),
        ],
        ids=["not assigned", "other trust domain", "another node", "itself as a proxy", "the control plane"],
    )
    async def test_what_a_node_may_not_hold(self, control: ControlPlane, wanted: SpiffeId) -> None:
        if wanted != USERS:
            # Even if the manifests said so.
            control.table.held.add(("local", wanted.uri))
        async with control.as_peer(NODE) as channel:
            wish = CertificateRequest(request_pem(new_key(), wanted.uri), impersonated_identity=wanted.uri)
            code, details = await refusal(channel, wish)
        assert (code, details) == (DENIED, f"the node local runs no proxy with the identity {wanted}")

    async def test_what_another_node_holds_is_not_this_ones(self, control: ControlPlane) -> None:
        async with control.as_peer(SpiffeId.node(DOMAIN, "other")) as channel:
            wish = CertificateRequest(request_pem(new_key()), impersonated_identity=ORDERS.uri)
            assert (await refusal(channel, wish))[0] is DENIED
            wish = CertificateRequest(request_pem(new_key()), server_names=("shop.example.com",))
            assert (await refusal(channel, wish))[0] is DENIED

    @pytest.mark.parametrize(
        ("names", "code"),
        [
            (("admin.example.com",), "PERMISSION_DENIED"),
            (("shop.example.com", "admin.example.com"), "PERMISSION_DENIED"),
            ((CONTROL_PLANE_DNS,), "INVALID_ARGUMENT"),
        ],
    )
    async def test_what_a_node_may_not_serve(self, control: ControlPlane, names: tuple[str, ...], code: str) -> None:
        control.table.served.add(("local", (CONTROL_PLANE_DNS,)))
        async with control.as_peer(NODE) as channel:
            found, _ = await refusal(channel, CertificateRequest(request_pem(new_key()), server_names=names))
        assert found.name == code

    @pytest.mark.parametrize("peer", [ORDERS, SpiffeId(DOMAIN, "/isthmus/node/a/b")])
    async def test_a_peer_that_is_no_node_gets_nothing(self, control: ControlPlane, peer: SpiffeId) -> None:
        async with control.as_peer(peer) as channel:
            for wish in (None, peer.uri, ORDERS.uri):
                code, details = await refusal(
                    channel, CertificateRequest(request_pem(new_key()), impersonated_identity=wish)
                )
                assert (code, details) == (DENIED, f"{peer} is not a node of this mesh")

    async def test_a_node_of_another_trust_domain_below_the_same_root_is_none_of_ours(
        self, control: ControlPlane
    ) -> None:
        authority, key = control.authority.value, new_key()
        foreign = replace(authority, trust_domain="other.example")
        svid = foreign.issue(Csr(key.public_key()), SpiffeId.node("other.example", "local"), HOUR, control.clock())
        async with control.mutual(key, "".join(svid.chain).encode()) as channel:
            for wish in (None, ORDERS.uri):
                code, details = await refusal(
                    channel, CertificateRequest(request_pem(new_key()), impersonated_identity=wish)
                )
                assert (code, details) == (
                    DENIED,
                    "spiffe://other.example/isthmus/node/local is not a node of this mesh",
                )

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            ((uri(NODE.uri), uri(ORDERS.uri)), "exactly one URI name, this has 2"),
            ((x509.DNSName("local"),), "this has 0"),
        ],
    )
    async def test_a_peer_of_two_names_or_none_is_nobody(
        self, control: ControlPlane, names: tuple[x509.GeneralName, ...], why: str
    ) -> None:
        authority, key = control.authority.value, new_key()
        now = control.clock() - timedelta(seconds=1)
        issuer = (authority.chain[0], authority.signing_key)
        chain = leaf(*names, now=now, issuer=issuer, key=key).public_bytes(Encoding.PEM)
        chain += authority.chain[0].public_bytes(Encoding.PEM)
        async with control.mutual(key, chain) as channel:
            code, details = await refusal(channel, CertificateRequest(request_pem(new_key())))
        assert code is UNAUTHENTICATED
        assert why in details

    async def test_a_certificate_that_ends_during_the_connection_is_no_longer_one(self, control: ControlPlane) -> None:
        async with control.as_peer(NODE) as channel:
            await create(channel, CertificateRequest(request_pem(new_key())))
            control.clock.ahead = HOUR + timedelta(minutes=1)
            code, details = await refusal(channel, CertificateRequest(request_pem(new_key())))
        assert code is UNAUTHENTICATED
        assert "not valid now" in details

    async def test_no_connection_without_a_certificate_of_our_root(self, control: ControlPlane) -> None:
        # A join token is of no use here, a stranger's certificate and none at all neither.
        token = control.tokens.issue("local", control.clock())
        async with control.mutual(None, None) as channel:
            code, _ = await refusal(channel, CertificateRequest(request_pem(new_key())), token)
            assert code is grpc.StatusCode.UNAVAILABLE
        stranger, key = make_authority(control.clock()), new_key()
        svid = stranger.issue(Csr(key.public_key()), NODE, HOUR, control.clock())
        async with control.mutual(key, "".join(svid.chain).encode()) as channel:
            code, _ = await refusal(channel, CertificateRequest(request_pem(new_key())), token)
            assert code is grpc.StatusCode.UNAVAILABLE
        assert control.tokens.redeem(token, control.clock()) == "local"

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"\xff\xff",
            CertificateRequest("").encode(),
            CertificateRequest("garbage").encode(),
            CertificateRequest(request_pem(new_key(), ORDERS.uri, USERS.uri)).encode(),
            CertificateRequest(request_pem(new_key()), impersonated_identity="spiffe://CLUSTER/x").encode(),
            CertificateRequest(request_pem(new_key()), impersonated_identity="x" * 100_000).encode(),
            CertificateRequest(request_pem(new_key()), -1).encode(),
            CertificateRequest(request_pem(new_key()), 0, ORDERS.uri, ("shop.example.com",)).encode(),
        ],
        ids=["no message", "empty", "garbage", "two URIs", "no SPIFFE ID", "long", "negative validity", "both"],
    )
    async def test_a_bad_request_is_the_callers_fault(self, control: ControlPlane, request_bytes: bytes) -> None:
        async with control.as_peer(NODE) as channel:
            code, details = await refusal(channel, request_bytes)
        assert code is INVALID
        assert details

    @pytest.mark.parametrize(
        ("seconds", "given"),
        [(0, HOUR), (1, timedelta(seconds=10)), (60, timedelta(seconds=60)), (2**63 - 1, timedelta(days=90))],
    )
    async def test_validity_is_a_wish(self, control: ControlPlane, seconds: int, given: timedelta) -> None:
        async with control.as_peer(NODE) as channel:
            chain = await create(channel, CertificateRequest(request_pem(new_key()), seconds))
        assert abs(life_of(chain) - control.clock() - given) < timedelta(seconds=5)

    async def test_another_machine_does_not_choose_how_long_it_outlives_its_eviction(
        self, control: ControlPlane
    ) -> None:
        control.table.held.add(("vm-1", ORDERS.uri))
        async with control.as_peer(SpiffeId.node(DOMAIN, "vm-1")) as channel:
            for wanted in (None, ORDERS.uri):
                request = CertificateRequest(request_pem(new_key()), 2**63 - 1, wanted)
                chain = await create(channel, request)
                assert abs(life_of(chain) - control.clock() - HOUR) < timedelta(seconds=5), wanted


class TestPace:
    async def test_a_node_that_floods_is_refused_and_another_is_not(self) -> None:
        now = datetime.now(UTC)
        root, root_key = create_root(DOMAIN, now)
        intermediate, key = create_intermediate(DOMAIN, root, root_key, now)
        authority = Latest(Authority(DOMAIN, root, (intermediate,), key))
        service = CertificateService(authority, Table(), JoinTokens(), lambda: now, pace=Pace("certificates", 5, 1))
        mine, others, local = (
            authority.value.issue(Csr(new_key().public_key()), SpiffeId.node(DOMAIN, name), HOUR, now).chain[0].encode()
            for name in ("edge-1", "edge-2", "local")
        )
        request = CertificateRequest(request_pem(new_key())).encode()
        for _ in range(5):
            service.answer(request, mine)
        with pytest.raises(TooFast, match="the node edge-1 asks too fast"):
            service.answer(request, mine)
        assert status_of(TooFast("so"))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        service.answer(request, others)
        for _ in range(10):
            service.answer(request, local)

    def test_another_machine_has_some_hundred_of_one_identity(self) -> None:
        """Each that lives is written down, and refused by all proxies once the machine is put out."""
        now = datetime.now(UTC)
        root, root_key = create_root(DOMAIN, now)
        intermediate, key = create_intermediate(DOMAIN, root, root_key, now)
        authority = Latest(Authority(DOMAIN, root, (intermediate,), key))
        service = CertificateService(authority, Table(), JoinTokens(), lambda: now)
        mine, others = (
            authority.value.issue(Csr(new_key().public_key()), SpiffeId.node(DOMAIN, name), HOUR, now).chain[0].encode()
            for name in ("edge-1", "edge-2")
        )
        request = CertificateRequest(request_pem(new_key())).encode()
        for _ in range(100):
            service.answer(request, mine)
        with pytest.raises(TooFast, match="100 certificates of one identity at once"):
            service.answer(request, mine)
        service.answer(request, others)


class TestOwnCertificate:
    def test_one_that_was_revoked_is_replaced(self) -> None:
        now = datetime.now(UTC)
        root, root_key = create_root(DOMAIN, now)
        intermediate, key = create_intermediate(DOMAIN, root, root_key, now)
        revoked: set[int] = set()
        authority = Latest(Authority(DOMAIN, root, (intermediate,), key))
        tls = ControlPlaneTls(authority, lambda: now, revoked=lambda: frozenset(revoked))
        first = tls()
        assert tls() is first
        revoked.add(x509.load_pem_x509_certificate(first.own.svid.chain[0].encode()).serial_number)
        assert tls() is not first

    def test_a_new_one_at_half_life_and_with_a_new_authority(self) -> None:
        clock = Clock()
        authority = Latest(make_authority(clock()))
        tls = ControlPlaneTls(authority, clock, HOUR)
        first = tls()
        clock.ahead = timedelta(minutes=29)
        assert tls() is first
        clock.ahead = timedelta(minutes=31)
        second = tls()
        assert second is not first
        assert second.own.key.pem != first.own.key.pem
        authority.set(make_authority(clock()))
        assert tls().roots == authority.value.bundle.roots
        assert "PRIVATE" not in repr(tls)

    async def test_new_connections_meet_the_new_one_while_old_ones_go_on(self, control: ControlPlane) -> None:
        async with control.as_peer(NODE) as old:
            await create(old, CertificateRequest(request_pem(new_key())))
            before = await shown_certificate(control.port)
            assert await shown_certificate(control.port) == before
            old_authority = control.authority.value
            intermediate, key = create_intermediate(DOMAIN, old_authority.root, control.root_key, control.clock())
            renewed = replace(old_authority, chain=(intermediate,), signing_key=key)
            control.authority.set(renewed)
            after = await shown_certificate(control.port)
            assert after != before
            # The same root: whoever trusted it before still does, on old connections and new.
            await create(old, CertificateRequest(request_pem(new_key())))
        async with control.as_peer(NODE) as new:
            chain = await create(new, CertificateRequest(request_pem(new_key())))
        assert chain[1] == renewed.chain[0].public_bytes(Encoding.PEM).decode()

    async def test_a_provider_that_fails_leaves_the_last_certificate_in_place(self, control: ControlPlane) -> None:
        before = await shown_certificate(control.port)
        # The authority has ended: none can be made for the next connection.
        control.clock.ahead = timedelta(days=366)
        with pytest.raises(Refused):
            ControlPlaneTls(control.authority, control.clock)()
        assert await shown_certificate(control.port) == before


@pytest.mark.parametrize("error", [SvidInvalid("our own mistake: secret"), IsthmusError("secret")])
def test_our_own_faults_are_not_told(error: IsthmusError) -> None:
    assert status_of(error) == (grpc.StatusCode.INTERNAL, "the certificate authority failed")


async def test_an_authority_that_has_ended_is_a_passing_fault(control: ControlPlane) -> None:
    control.clock.ahead = timedelta(days=366)
    token = control.tokens.issue("local", control.clock())
    async with control.enrolment() as channel:
        code, details = await refusal(channel, CertificateRequest(request_pem(new_key())), token)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "ended on" in details
