from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.control.roster import Roster
from isthmus.errors import NotEnrolled
from isthmus.identity.spiffe_id import SpiffeId
from tests.identity.making import HOUR, NOW, leaf, uri

from .making import ORDERS, SIDECAR, plane_of

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [b.example.com, a.example.com]
    tls: {mode: SIMPLE, credentialName: cert}
"""
ORDERS_ID = "spiffe://cluster.local/ns/shop/sa/default"


def roster() -> Roster:
    return Roster(plane_of(ORDERS, GATEWAY), lambda: NOW)


def pem(*uris: str) -> bytes:
    return leaf(*(uri(one) for one in uris)).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("node", "identity", "allowed"),
    [
        ("local", ORDERS_ID, True),
        ("local", "spiffe://cluster.local/ns/shop/sa/edge", True),
        ("local", "spiffe://cluster.local/ns/shop/sa/other", False),
        ("local", "spiffe://other.domain/ns/shop/sa/default", False),
        ("other", ORDERS_ID, False),
    ],
)
def test_a_node_may_hold_the_identities_of_its_own_proxies(node: str, identity: str, allowed: bool) -> None:
    assert roster().may_hold(node, SpiffeId.parse(identity)) is allowed


@pytest.mark.parametrize(
    ("node", "names", "allowed"),
    [
        ("local", ("a.example.com", "b.example.com"), True),
        ("local", ("a.example.com",), False),
        ("local", ("a.example.com", "b.example.com", "c.example.com"), False),
        ("local", (), False),
        ("other", ("a.example.com", "b.example.com"), False),
    ],
)
def test_a_development_certificate_is_for_the_planned_names_alone(
    node: str, names: tuple[str, ...], allowed: bool
) -> None:
    assert roster().may_serve(node, names) is allowed


def test_snapshots_are_for_proxies_that_the_mesh_has() -> None:
    found = roster()
    assert found.acquire(SIDECAR) is found.acquire(SIDECAR)
    found.release(SIDECAR)
    assert found.acquire(SIDECAR).value.resources
    with pytest.raises(NotEnrolled, match="no proxy sidecar~shop~nobody"):
        found.acquire("sidecar~shop~nobody")


def test_a_peer_is_whom_its_certificate_names() -> None:
    roster().authorize(pem(ORDERS_ID), SIDECAR)


@pytest.mark.parametrize(
    ("certificate", "node_id"),
    [
        (None, SIDECAR),
        (b"", SIDECAR),
        (b"not a certificate", SIDECAR),
        (pem(), SIDECAR),
        (pem(ORDERS_ID, "spiffe://cluster.local/ns/shop/sa/edge"), SIDECAR),
        (pem("spiffe://cluster.local/ns/shop/sa/edge"), SIDECAR),
        (pem("spiffe://other.domain/ns/shop/sa/default"), SIDECAR),
        (pem(ORDERS_ID), "gateway~shop~edge"),
        (pem(ORDERS_ID), "sidecar~shop~nobody"),
    ],
)
def test_nobody_else_is_let_in(certificate: bytes | None, node_id: str) -> None:
    with pytest.raises(NotEnrolled):
        roster().authorize(certificate, node_id)


def test_a_certificate_that_has_ended_is_nobodys() -> None:
    late = Roster(plane_of(ORDERS), lambda: NOW + 2 * HOUR)
    assert x509.load_pem_x509_certificate(pem(ORDERS_ID)).not_valid_after_utc == NOW + HOUR
    with pytest.raises(NotEnrolled):
        late.authorize(pem(ORDERS_ID), SIDECAR)


def test_a_revoked_identity_is_no_proxys_and_gets_no_tokens() -> None:
    plane = plane_of(ORDERS, GATEWAY)
    revoking = Roster(plane, lambda: NOW)
    revoking.authorize(pem(ORDERS_ID), SIDECAR)
    plane.inputs.revoked = frozenset({ORDERS_ID})
    with pytest.raises(NotEnrolled, match="was revoked"):
        revoking.authorize(pem(ORDERS_ID), SIDECAR)
    assert revoking.jwt_ttl("local", SpiffeId.parse(ORDERS_ID), ("a",)) is None
