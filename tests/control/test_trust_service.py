from __future__ import annotations

from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.ads.status import Statuses
from isthmus.control.roster import Roster
from isthmus.control.trust_service import TrustService, behind
from isthmus.proxy.plan import TrustBundle, trust_version
from tests.identity.making import NOW, leaf, uri

from .making import ORDERS, plane_of

TRUST = (TrustBundle("cluster.local", ("one", "two")),)


def test_a_node_is_behind_until_it_has_confirmed_this_very_trust() -> None:
    assert behind({}, ["a", "b"], TRUST) == ("a", "b")
    assert behind({"a": trust_version(TRUST), "b": "another"}, ["a", "b"], TRUST) == ("b",)
    assert behind({"a": "another"}, [], TRUST) == (), "nobody is connected"


class Aborted(Exception):
    pass


class Call:
    """A gRPC call of somebody with a certificate."""

    def __init__(self, *uris: str) -> None:
        made = leaf(*(uri(one) for one in uris)).public_bytes(Encoding.PEM) if uris else b""
        self._context = {"x509_pem_cert": [made]} if made else {}

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._context

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code)


def serving(revoked: frozenset[int] = frozenset()) -> Any:
    plane = plane_of(ORDERS)
    plane.inputs.revoked_certificates = revoked
    return TrustService(plane, Statuses(), Roster(plane, lambda: NOW), lambda: NOW)


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (("spiffe://cluster.local/ns/shop/sa/orders",), grpc.StatusCode.PERMISSION_DENIED),
        (("spiffe://other.example/isthmus/node/local",), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_only_a_node_of_the_mesh_speaks_for_its_proxies(caller: tuple[str, ...], code: grpc.StatusCode) -> None:
    service = serving()
    with pytest.raises(Aborted) as aborted:
        await service._confirm(b"1", Call(*caller))
    assert aborted.value.args == (code,)


async def test_what_a_node_says_is_kept() -> None:
    service = serving()
    await service._confirm(b"1", Call("spiffe://cluster.local/isthmus/node/local"))
    assert service.behind() == ()
    assert behind(service._confirmed, ["local"], TRUST) == ("local",)


async def test_one_that_was_put_out_says_nothing_for_whoever_has_its_name_now() -> None:
    call = Call("spiffe://cluster.local/isthmus/node/local")
    pem = call.auth_context()["x509_pem_cert"][0]
    service = serving(frozenset({x509.load_pem_x509_certificate(pem).serial_number}))
    with pytest.raises(Aborted) as aborted:
        await service._confirm(b"1", call)
    assert aborted.value.args == (grpc.StatusCode.UNAUTHENTICATED,)
    assert service._confirmed == {}
