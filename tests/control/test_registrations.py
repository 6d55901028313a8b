from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.control.registrations import jwt_ttl, planned_registrations
from isthmus.control.roster import Roster
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.model.registration import Selectors
from isthmus.proxy.plan import PlannedRegistration
from tests.identity.making import NOW

from .making import ORDERS, plane_of

PREFIX = "spiffe://cluster.local/ns/shop/sa/"
REGISTERED = """\
apiVersion: isthmus.dev/v1alpha1
kind: WorkloadRegistration
metadata: {name: db, namespace: shop}
spec: {serviceAccount: db, selectors: {uid: 70}, ttl: 2m, jwtTtl: 1m, jwtAudiences: [vault, bank], hint: inner}
---
apiVersion: isthmus.dev/v1alpha1
kind: WorkloadRegistration
metadata: {name: db-2, namespace: shop}
spec: {serviceAccount: db, selectors: {uid: 71}, jwtTtl: 2m, jwtAudiences: [vault]}
---
apiVersion: isthmus.dev/v1alpha1
kind: WorkloadRegistration
metadata: {name: far, namespace: shop}
spec: {serviceAccount: far, selectors: {uid: 70}, node: edge-1}
"""


def test_a_node_is_told_its_own() -> None:
    mesh = plane_of(REGISTERED).rebuild().mesh
    assert planned_registrations(mesh, "local", timedelta(hours=1)) == (
        PlannedRegistration(f"{PREFIX}db", Selectors(uid=70), 120, ("vault", "bank"), "inner"),
        PlannedRegistration(f"{PREFIX}db", Selectors(uid=71), 3600, ("vault",)),
    )
    assert [one.identity for one in planned_registrations(mesh, "edge-1", timedelta(hours=1))] == [f"{PREFIX}far"]


@pytest.mark.parametrize(
    ("node", "account", "audiences", "minutes"),
    [
        ("local", "db", ("bank",), 1),
        ("local", "db", ("vault",), 2),
        ("local", "db", ("vault", "bank"), 1),
        ("local", "db", ("other",), None),
        ("local", "far", ("other",), None),
        ("edge-1", "far", ("other",), 5),
        ("edge-1", "db", ("vault",), None),
        # The program beside the sidecar of ORDERS.
        ("local", "default", ("other",), 5),
        ("edge-1", "default", ("other",), None),
        ("local", "nobody", ("other",), None),
    ],
)
def test_who_may_have_tokens_for_whom(node: str, account: str, audiences: tuple[str, ...], minutes: int | None) -> None:
    mesh = plane_of(ORDERS, REGISTERED).rebuild().mesh
    lives = None if minutes is None else timedelta(minutes=minutes)
    assert jwt_ttl(mesh, node, PREFIX + account, audiences) == lives


def test_a_node_may_hold_what_is_registered_for_it() -> None:
    plane = plane_of(REGISTERED)
    plane.rebuild()
    roster = Roster(plane, lambda: NOW)
    db, far = SpiffeId.parse(f"{PREFIX}db"), SpiffeId.parse(f"{PREFIX}far")
    assert (roster.may_hold("local", db), roster.may_hold("local", far)) == (True, False)
    assert (roster.may_hold("edge-1", db), roster.may_hold("edge-1", far)) == (False, True)
    assert roster.jwt_ttl("local", db, ("vault",)) == timedelta(minutes=2)


def test_another_machine_s_certificates_live_as_long_as_said_here() -> None:
    plane = plane_of(REGISTERED)
    plane.rebuild()
    roster, usual = Roster(plane, lambda: NOW), plane.world.svid_ttl
    db, far = SpiffeId.parse(f"{PREFIX}db"), SpiffeId.parse(f"{PREFIX}far")
    assert (roster.longest("local", db), roster.longest("edge-1", far)) == (usual, usual)
    assert roster.longest("edge-1", SpiffeId.node("cluster.local", "edge-1")) == timedelta(hours=24)
