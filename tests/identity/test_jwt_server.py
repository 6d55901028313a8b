from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.errors import CsrRejected, NotEnrolled, SpiffeIdInvalid
from isthmus.identity.enrolment import NotAssigned
from isthmus.identity.jwt_keys import JwtKeys
from isthmus.identity.jwt_server import JwtService
from isthmus.identity.jwt_svid import validate
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.workload_wire import message
from isthmus.latest import Latest
from tests.identity.making import DOMAIN, HOUR, NOW, leaf, make_authority, new_csr, uri

WEB = SpiffeId.workload(DOMAIN, "shop", "web")
AUTHORITY = make_authority()
KEYS = JwtKeys().advanced(NOW)


@dataclass(frozen=True, slots=True)
class Assigned:
    """One workload of one node, whose tokens are for one audience."""

    def jwt_ttl(self, node: str, spiffe_id: SpiffeId, audiences: tuple[str, ...]) -> timedelta | None:
        given = (node, spiffe_id.trust_domain) == ("here", DOMAIN) and audiences in (("vault",), ())
        return timedelta(minutes=1) if given else None


@dataclass(frozen=True, slots=True)
class Revoked:
    spiffe_id: SpiffeId

    def check(self, spiffe_id: SpiffeId) -> None:
        if spiffe_id == self.spiffe_id:
            raise NotAssigned("revoked")

    def check_certificate(self, peer: bytes) -> None:
        return

    def note(self, expires: object) -> None:
        raise AssertionError("nothing is signed that a list of certificates would hold")


SERVICE = JwtService(Latest(KEYS), Latest(AUTHORITY), Assigned(), lambda: NOW)


def node(name: str = "here") -> bytes:
    """The certificate of a node."""
    return AUTHORITY.issue(new_csr(), SpiffeId.node(DOMAIN, name), HOUR, NOW).chain[0].encode()


def ask(spiffe_id: str, *audiences: str) -> bytes:
    encoded: bytes = message("JWTSVIDRequest")(spiffe_id=spiffe_id, audience=audiences).SerializeToString()
    return encoded


def test_a_node_gets_a_token_for_its_workload() -> None:
    response = message("JWTSVIDResponse").FromString(SERVICE.answer(ask(WEB.uri, "vault"), node()))
    [svid] = response.svids
    found = validate(svid.svid, "vault", {DOMAIN: KEYS.public}, NOW)
    assert (svid.spiffe_id, found.spiffe_id, found.expires) == (WEB.uri, WEB, NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (SpiffeId.node(DOMAIN, "here").uri, NotAssigned),
        (AUTHORITY.control_plane_id.uri, NotAssigned),
        ("spiffe://other.example/ns/shop/sa/web", NotAssigned),
        ("web", SpiffeIdInvalid),
    ],
)
def test_what_no_workload_is(wanted: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        SERVICE.answer(ask(wanted, "vault"), node())


def test_what_is_not_for_this_node_or_audience() -> None:
    with pytest.raises(NotAssigned):
        SERVICE.answer(ask(WEB.uri, "vault"), node("elsewhere"))
    with pytest.raises(NotAssigned):
        SERVICE.answer(ask(WEB.uri, "bank"), node())
    with pytest.raises(CsrRejected, match="audiences"):
        SERVICE.answer(ask(WEB.uri), node())


def test_who_is_no_node() -> None:
    workload = AUTHORITY.issue(new_csr(), WEB, HOUR, NOW).chain[0].encode()
    stranger = leaf(uri("https://x")).public_bytes(Encoding.PEM)
    for peer, error in ((workload, NotAssigned), (stranger, NotEnrolled), (b"", NotEnrolled)):
        with pytest.raises(error):
            SERVICE.answer(ask(WEB.uri, "vault"), peer)


def test_what_is_revoked_gets_none() -> None:
    service = JwtService(Latest(KEYS), Latest(AUTHORITY), Assigned(), lambda: NOW, Revoked(WEB))
    with pytest.raises(NotAssigned, match="revoked"):
        service.answer(ask(WEB.uri, "vault"), node())


def test_noise_is_refused() -> None:
    with pytest.raises(CsrRejected):
        SERVICE.answer(b"\xff\xff", node())
