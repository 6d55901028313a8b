from __future__ import annotations

from datetime import datetime

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.control.bundle_service import BundleService
from isthmus.control.roster import Roster
from isthmus.errors import RegoBundleRefused
from isthmus.identity.wire import FETCH_BUNDLE_PATH
from isthmus.model.rego_bundle import ActiveBundle
from tests.identity.making import HOUR, NOW, leaf, uri

from .making import plane_of
from .test_bundles import policy
from .test_credential_service import Aborted, Connection

NODE = "spiffe://cluster.local/isthmus/node/local"
PACKED = bytes(range(256)) * 4000


class Store:
    def __init__(self, packed: bytes | None = PACKED) -> None:
        self._packed = packed

    def packed(self, digest: str) -> bytes:
        if self._packed is None:
            raise RegoBundleRefused(f"no {digest}")
        return self._packed


class Call:
    method = FETCH_BUNDLE_PATH
    invocation_metadata = ()


async def fetch(
    digest: str = "a" * 64, uris: tuple[str, ...] = (NODE,), now: datetime = NOW, store: Store | None = None
) -> list[bytes]:
    plane = plane_of(policy())
    plane.inputs.rego_bundles = {"shop/authz": ActiveBundle("a" * 64, "seven")}
    plane.rebuild()
    service = BundleService(plane, Roster(plane, lambda: now), store or Store(), lambda: now)
    method = service.handler().service(Call()).unary_stream
    certificate = leaf(*(uri(one) for one in uris)).public_bytes(Encoding.PEM) if uris else None
    return [piece async for piece in method(digest.encode(), Connection(certificate))]


async def test_a_node_gets_what_is_in_force_in_pieces() -> None:
    pieces = await fetch()
    assert b"".join(pieces) == PACKED
    assert len(pieces) == 4


@pytest.mark.parametrize("digest", ["b" * 64, "", "../../ca/root.pem", "é"])
async def test_and_nothing_else(digest: str) -> None:
    with pytest.raises(Aborted) as refused:
        await fetch(digest)
    assert refused.value.code is grpc.StatusCode.NOT_FOUND


async def test_a_node_that_does_not_decide_by_it_gets_none(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Aborted) as refused:
        await fetch(uris=("spiffe://cluster.local/isthmus/node/b",))
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert "the node b decides by no policy of the bundle aaaaaaaaaaaa, and is not given it" in caplog.text


async def test_a_bundle_that_is_gone() -> None:
    with pytest.raises(Aborted) as refused:
        await fetch(store=Store(None))
    assert refused.value.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("uris", "now", "code"),
    [
        ((), NOW, grpc.StatusCode.UNAUTHENTICATED),
        ((NODE,), NOW + 48 * HOUR, grpc.StatusCode.UNAUTHENTICATED),
        ((NODE, "spiffe://cluster.local/isthmus/node/b"), NOW, grpc.StatusCode.UNAUTHENTICATED),
        (("spiffe://cluster.local/ns/shop/sa/orders",), NOW, grpc.StatusCode.PERMISSION_DENIED),
        (("spiffe://td2.example/isthmus/node/local",), NOW, grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_who_is_no_node_gets_nothing(uris: tuple[str, ...], now: datetime, code: grpc.StatusCode) -> None:
    with pytest.raises(Aborted) as refused:
        await fetch(uris=uris, now=now)
    assert refused.value.code is code
