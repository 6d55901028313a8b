"""What another authority's agent gives; the stream itself: tests/real/test_workload_spire.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from isthmus.errors import NotEnrolled, Refused, Unreachable
from isthmus.identity.authority import Authority
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import Csr
from isthmus.identity.workload_wire import message
from isthmus.proxy.workload_api.client import certificates_in, x509_svids
from isthmus.proxy.workload_api.socket_file import socket_path
from isthmus.proxy.workload_api.source import SvidSource
from tests.identity.making import DOMAIN, HOUR, NOW, make_authority, new_key

AUTHORITY, OTHER = make_authority(), make_authority(trust_domain="other.example")
WEB = f"spiffe://{DOMAIN}/ns/shop/sa/web"


def svid(authority: Authority, account: str, said: str | None = None, key: Any = None) -> Any:
    """An X509SVID; ``said``: another identity than its certificate's; ``key``: another than its own."""
    spiffe_id, own = SpiffeId.workload(authority.trust_domain, "shop", account), new_key()
    made = authority.issue(Csr(own.public_key()), spiffe_id, HOUR, NOW)
    chain = b"".join(_der(one) for one in made.chain)
    private = (key or own).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    bundle = b"".join(_der(one) for one in authority.bundle.roots)
    return message("X509SVID")(spiffe_id=said or spiffe_id.uri, x509_svid=chain, x509_svid_key=private, bundle=bundle)


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


class Agent:
    """Gives each of its answers, and then ends the stream, or refuses."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    async def fetch(self, call: Stream[Any, Any]) -> None:
        await call.recv_message()
        if not self.answers:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        for svids in self.answers:
            await call.send_message(message("X509SVIDResponse")(svids=svids))

    def __mapping__(self) -> dict[str, Handler]:
        types = message("X509SVIDRequest"), message("X509SVIDResponse")
        return {"/SpiffeWorkloadAPI/FetchX509SVID": Handler(self.fetch, Cardinality.UNARY_STREAM, *types)}


@asynccontextmanager
async def serving(agent: Agent, folder: Path) -> AsyncIterator[Path]:
    server = Server([agent])
    await server.start(path=str(folder / "api.sock"))
    try:
        yield folder / "api.sock"
    finally:
        server.close()
        await server.wait_closed()


async def taken(folder: Path, *svids: Any) -> SvidSource:
    """A source that has heard one answer."""
    async with serving(Agent(svids), folder) as socket:
        source = SvidSource(socket)
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(30):
            await source.svids.after(0)
        running.cancel()
    return source


async def test_svids_and_the_roots_of_their_trust_domains(tmp_path: Path) -> None:
    source = await taken(tmp_path, svid(AUTHORITY, "web"), svid(OTHER, "web"))
    assert source.svids.value.keys() == {WEB, "spiffe://other.example/ns/shop/sa/web"}
    assert source.roots.value == {DOMAIN: AUTHORITY.bundle.roots, "other.example": OTHER.bundle.roots}


async def test_what_is_broken_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = await taken(
        tmp_path,
        svid(AUTHORITY, "db", key=new_key()),
        svid(AUTHORITY, "web"),
        svid(AUTHORITY, "web", said=f"spiffe://{DOMAIN}/ns/bank/sa/web"),
        message("X509SVID")(spiffe_id=f"spiffe://{DOMAIN}/ns/shop/sa/none"),
    )
    assert source.svids.value.keys() == {WEB}
    for reason in ("another key", "another identity", "no certificate"):
        assert reason in caplog.text


async def test_who_gives_nothing_is_named(tmp_path: Path) -> None:
    async with serving(Agent(), tmp_path) as socket:
        with pytest.raises(NotEnrolled, match="no identity issued"):
            await anext(x509_svids(socket))
    with pytest.raises(Unreachable, match="no Workload API at"):
        await anext(x509_svids(tmp_path / "nobody.sock"))


@pytest.mark.parametrize("data", [b"\x30", b"\x30\x82", b"\x30\x03abc", b"noise"])
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError):
        certificates_in(data)


def test_sockets_by_name() -> None:
    assert socket_path("unix:///run/api.sock") == socket_path("/run/api.sock") == Path("/run/api.sock")
    for wrong in ("api.sock", "unix:api.sock", "tcp://127.0.0.1:8080", ""):
        with pytest.raises(Refused):
            socket_path(wrong)
