from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from isthmus.ads.status import ProxyStatus, Statuses, SyncState, TypeStatus
from isthmus.control.control_plane import ControlPlane
from isthmus.control.credential_service import CredentialService
from isthmus.control.nodes import Nodes
from isthmus.control.roster import Roster
from isthmus.control.running import Wants
from isthmus.model.world import Address
from isthmus.proxy.place import Folders
from isthmus.proxy.plan import TrustBundle
from isthmus.xds.relay import RELAY_ID
from isthmus.xds.snapshot import CLUSTER, LISTENER
from tests.control.making import ORDERS, SIDECAR, plane_of
from tests.kinds.credential import pair, secret

from .test_nodes import Files
from .test_remote import EDGE, MESH

FOLDERS = Folders(Path("/state"), Path("/run/isthmus"))
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def status(version: str, *, in_sync: bool) -> ProxyStatus:
    types = dict.fromkeys((CLUSTER, LISTENER), TypeStatus(SyncState.SYNCED, {}, NOW))
    return ProxyStatus(SIDECAR, NOW, version, in_sync, MappingProxyType(types), ())


def wants_of(plane: ControlPlane, statuses: Statuses | None = None, nodes: Nodes | None = None) -> Wants:
    known = nodes or Nodes(Files(), lambda: NOW)
    credentials = CredentialService(plane, Roster(plane, lambda: NOW, known), lambda: NOW)
    return Wants(plane, statuses or Statuses(), FOLDERS, known, credentials.secret)


def test_what_the_envoys_of_this_machine_should_have() -> None:
    plane, statuses = plane_of(ORDERS), Statuses()
    wants = wants_of(plane, statuses)
    plane.rebuild()
    plane.inputs.trust = (TrustBundle("cluster.local", ("root",)),)
    (found,) = wants().values()
    assert found.proxy == SIDECAR
    assert found.identity == "spiffe://cluster.local/ns/shop/sa/default"
    assert found.snapshot is plane.snapshot(SIDECAR).value
    assert found.bootstrap.node.id == SIDECAR
    assert found.options["config_path"] == str(FOLDERS.bootstrap(SIDECAR))
    assert [(one.trust_domain, one.roots) for one in found.trust] == [("cluster.local", ("root",))]


def test_who_has_not_confirmed_yet_is_not_settled() -> None:
    plane, statuses = plane_of(ORDERS), Statuses()
    wants = wants_of(plane, statuses)
    plane.rebuild()
    newest = plane.snapshot(SIDECAR).value.version

    def settled() -> bool:
        return wants()[SIDECAR].settled

    assert settled(), "without a stream it has what it has"
    statuses.put(status(newest, in_sync=False))
    assert not settled()
    statuses.put(status("older", in_sync=True))
    assert not settled()
    statuses.put(status(newest, in_sync=True))
    assert settled()


def test_who_leaves_is_not_looked_at() -> None:
    plane = plane_of(ORDERS)
    plane.rebuild()
    plane.inputs.documents = ()
    plane.compiled.set(None)
    assert wants_of(plane)() == {}


GATEWAY = "gateway~shop~edge"


def carried_by(nodes: Nodes, plane: ControlPlane) -> None:
    nodes.admit("edge-1", EDGE.scope)
    nodes.begin("edge-1", EDGE, EDGE.address)
    plane.inputs.offers = nodes.offers
    plane.rebuild()


def test_what_the_envoys_of_a_connected_machine_should_have() -> None:
    plane, nodes = plane_of(MESH), Nodes(Files(), lambda: NOW)
    wants = wants_of(plane, nodes=nodes)
    carried_by(nodes, plane)
    found = wants()[GATEWAY]
    assert (found.machine, found.snapshot) == ("edge-1", plane.snapshot(GATEWAY).value)
    assert found.options["config_path"].startswith("/run/edge/")
    assert found.bootstrap.admin.address.pipe.path.startswith("/run/edge/")
    # As the machine calls the control plane, which knows itself by another address.
    assert "plane.example.com" in str(found.bootstrap.static_resources.clusters)
    assert wants()[GATEWAY].bootstrap is found.bootstrap
    nodes.end(nodes._sessions["edge-1"])
    assert wants() == {}


def test_a_machine_that_does_not_say_how_it_calls_the_control_plane_is_not_compared() -> None:
    plane, nodes = plane_of(MESH), Nodes(Files(), lambda: NOW)
    nodes.admit("edge-1", EDGE.scope)
    nodes.begin("edge-1", replace(EDGE, control_plane=None), EDGE.address)
    plane.inputs.offers = nodes.offers
    plane.rebuild()
    assert wants_of(plane, nodes=nodes)() == {}


def test_a_machine_whose_bootstraps_cannot_be_said_is_told_once_and_not_compared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    plane, nodes = plane_of(MESH), Nodes(Files(), lambda: NOW)
    nodes.admit("edge-1", EDGE.scope)
    nodes.begin("edge-1", replace(EDGE, control_plane=Address("a\ud800", 15012)), EDGE.address)
    plane.inputs.offers = nodes.offers
    plane.rebuild()
    wants = wants_of(plane, nodes=nodes)
    assert wants() == wants() == {}
    (told,) = caplog.messages
    assert "edge-1" in told


def test_the_relay_should_have_what_the_plan_says() -> None:
    plane = plane_of(ORDERS)
    plan = plane.plan.value
    assert plan is not None
    plane.plan.set(replace(plan, relay=(Address("db.example.com", 5432),)))
    found = wants_of(plane)()[RELAY_ID]
    assert found.bootstrap.node.id == RELAY_ID
    assert set(found.snapshot.of(CLUSTER)) == set(found.snapshot.of(LISTENER)) == {"anywhere", "db.example.com:5432"}
    assert found.trust == ()


def test_what_a_gateway_is_given_of_secrets() -> None:
    chain, key = pair("edge")
    tls = MESH.replace(
        "{number: 80, name: http, protocol: HTTP}", "{number: 443, name: https, protocol: HTTPS}"
    ).replace('hosts: ["*"]}', 'hosts: ["*"], tls: {mode: MUTUAL, credentialName: edge}}', 1)
    plane = plane_of(tls, secret("edge", tls_crt=chain, tls_key=key, ca_crt=chain))
    found = {one.name: one for one in wants_of(plane)()[GATEWAY].credentials}
    assert set(found) == {"credential:shop/edge", "credential-ca:shop/edge"}
    assert found["credential:shop/edge"].chain == chain
    assert found["credential-ca:shop/edge"].authorities == chain
    assert key.decode() not in repr(found)


def test_a_development_certificate_is_known_by_its_names() -> None:
    tls = MESH.replace(
        "{number: 80, name: http, protocol: HTTP}", "{number: 443, name: https, protocol: HTTPS}"
    ).replace('hosts: ["*"]}', "hosts: [shop.example.com], tls: {mode: SIMPLE, credentialName: edge}}", 1)
    (found,) = wants_of(plane_of(tls))()[GATEWAY].credentials
    assert found.development_dns == ("shop.example.com",)
