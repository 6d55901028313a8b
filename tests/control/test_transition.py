from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from isthmus.ads.status import ProxyStatus, SyncState, TypeStatus
from isthmus.control.control_plane import ControlPlane
from isthmus.control.transition import Transition, opened
from isthmus.model.world import PortKey
from isthmus.xds.snapshot import CLUSTER, EMPTY, ENDPOINT, EXTENSION, LISTENER, Snapshot, message

from .making import NODE, ORDERS, SIDECAR, CountedPorts, NamedCredentials, documents

SECOND = "sidecar~shop~orders-2"
GATEWAY = "gateway~shop~edge"
CLUSTER_NAME = "outbound|8080||orders.shop.svc.cluster.local"
EDGE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: orders}}]}]
"""
SERVICE, ENTRY = ORDERS.split("---\n")
OTHER = ENTRY.replace("orders-1", "orders-2")


class Turning:
    """A control plane whose turns somebody follows; ``opens`` and ``knows`` are what proxies and callers would say."""

    def __init__(self, *texts: str, runs: Callable[[str], bool] = lambda proxy: True) -> None:
        self.transition = Transition(runs)
        self.plane = ControlPlane(
            NODE, CountedPorts(), NamedCredentials(), timedelta(hours=1), lambda _: None, self.transition
        )
        self.edit(*texts)

    def edit(self, *texts: str) -> None:
        self.plane.inputs.documents = documents(EDGE, *texts)
        self.plane.rebuild()

    def opens(self) -> None:
        statuses = [acked(SIDECAR, self.plane.snapshots), acked(SECOND, self.plane.snapshots)]
        self.plane.inputs.opened = opened(self.plane.world.starting, statuses, self.plane.snapshots)
        self.plane.rebuild()

    def knows(self) -> None:
        self.plane.see_off(self.transition.turns.value)

    @property
    def endpoints(self) -> int:
        """How many the gateway has of the service."""
        found = self.plane.snapshot(GATEWAY).value.of(ENDPOINT)[CLUSTER_NAME]
        localities = message(found).endpoints  # type: ignore[attr-defined]
        return sum(len(locality.lb_endpoints) for locality in localities)

    @property
    def planned(self) -> set[str]:
        assert self.plane.plan.value is not None
        return {proxy.id for proxy in self.plane.plan.value.proxies}

    def listeners(self, proxy: str = SIDECAR) -> set[str]:
        return {name for name in self.plane.snapshot(proxy).value.of(LISTENER) if name.startswith("inbound")}


def acked(proxy: str, snapshots: dict[str, Snapshot] | object, but: Iterable[str] = ()) -> ProxyStatus:
    """A proxy that has confirmed all of its newest snapshot, but for the types of ``but``."""
    assert isinstance(snapshots, dict)
    snapshot = snapshots.get(proxy, EMPTY)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    types = {
        type_url: TypeStatus(
            SyncState.SYNCED, {name: built.version for name, built in snapshot.of(type_url).items()}, now
        )
        for type_url in (CLUSTER, ENDPOINT, EXTENSION, LISTENER)
        if type_url not in but
    }
    return ProxyStatus(proxy, now, snapshot.version, True, types, ())


def test_at_a_start_every_place_is_an_endpoint() -> None:
    mesh = Turning(SERVICE, ENTRY, OTHER)
    assert mesh.endpoints == 2
    assert mesh.plane.world.starting == frozenset()


def test_at_a_restart_who_does_not_run_yet_is_no_endpoint() -> None:
    mesh = Turning(SERVICE, ENTRY, OTHER, runs=lambda proxy: proxy != SECOND)
    assert mesh.endpoints == 1
    mesh.opens()
    assert mesh.endpoints == 2


def test_who_comes_later_is_an_endpoint_when_its_proxy_has_opened() -> None:
    mesh = Turning(SERVICE, ENTRY)
    mesh.edit(SERVICE, ENTRY, OTHER)
    assert mesh.planned == {GATEWAY, SIDECAR, SECOND}
    assert mesh.endpoints == 1
    assert mesh.plane.world.starting == {PortKey(SECOND, "inbound", 9080)}
    mesh.opens()
    assert mesh.endpoints == 2
    assert mesh.plane.world.starting == frozenset()


def test_opened_means_the_listener_its_cluster_and_its_filters() -> None:
    mesh = Turning(SERVICE, ENTRY)
    mesh.edit(SERVICE, ENTRY, OTHER)
    plane, starting = mesh.plane, mesh.plane.world.starting
    for missing in (LISTENER, CLUSTER, EXTENSION):
        assert opened(starting, [acked(SECOND, plane.snapshots, {missing})], plane.snapshots) == frozenset()
    assert opened(starting, [], plane.snapshots) == frozenset()
    assert opened(starting, [acked(SECOND, plane.snapshots)], plane.snapshots) == starting


def test_who_leaves_serves_until_every_caller_knows() -> None:
    mesh = Turning(SERVICE, ENTRY, OTHER)
    mesh.edit(SERVICE, ENTRY)
    assert mesh.endpoints == 1
    assert mesh.transition.turns.value == 1
    assert mesh.planned == {GATEWAY, SIDECAR, SECOND}
    assert mesh.listeners(SECOND) == {"inbound_9080"}
    mesh.knows()
    assert mesh.planned == {GATEWAY, SIDECAR}
    assert mesh.plane.snapshot(SECOND).value == EMPTY


def test_who_leaves_and_comes_back_stays() -> None:
    mesh = Turning(SERVICE, ENTRY, OTHER)
    mesh.edit(SERVICE, ENTRY)
    mesh.edit(SERVICE, ENTRY, OTHER)
    mesh.knows()
    assert mesh.planned == {GATEWAY, SIDECAR, SECOND}
    assert mesh.listeners(SECOND) == {"inbound_9080"}


def test_who_left_later_is_not_seen_off_with_who_left_before() -> None:
    mesh = Turning(SERVICE, ENTRY, OTHER)
    mesh.edit(SERVICE, ENTRY)
    first = mesh.transition.turns.value
    mesh.edit(SERVICE)
    mesh.plane.see_off(first)
    assert mesh.planned == {GATEWAY, SIDECAR}
    mesh.knows()
    assert mesh.planned == {GATEWAY}


def test_a_service_keeps_its_endpoints_while_all_the_new_ones_start() -> None:
    mesh = Turning(SERVICE, ENTRY)
    before = mesh.plane.snapshot(GATEWAY).value.of(ENDPOINT)[CLUSTER_NAME]
    mesh.edit(SERVICE, OTHER)
    assert mesh.plane.snapshot(GATEWAY).value.of(ENDPOINT)[CLUSTER_NAME] == before
    assert mesh.planned == {GATEWAY, SIDECAR, SECOND}
    mesh.opens()
    after = mesh.plane.snapshot(GATEWAY).value.of(ENDPOINT)[CLUSTER_NAME]
    assert after != before
    assert mesh.endpoints == 1
    mesh.knows()
    assert mesh.planned == {GATEWAY, SECOND}


def test_endpoints_that_never_open_are_waited_for_no_longer_than_those_who_see_off_wait() -> None:
    mesh = Turning(SERVICE, ENTRY)
    mesh.edit(SERVICE, OTHER)
    mesh.knows()
    assert mesh.endpoints == 0
    assert mesh.planned == {GATEWAY, SECOND}


def test_a_port_that_moves_has_both_listeners_until_every_caller_knows() -> None:
    mesh = Turning(SERVICE, ENTRY)
    mesh.edit(SERVICE, ENTRY.replace("9080", "9090"))
    assert mesh.listeners() == {"inbound_9080", "inbound_9090"}
    mesh.opens()
    assert mesh.listeners() == {"inbound_9080", "inbound_9090"}
    mesh.knows()
    assert mesh.listeners() == {"inbound_9090"}
    assert [name for name in mesh.plane.snapshot(SIDECAR).value.of(CLUSTER) if "9080" in name] == []
    assert [name for name in mesh.plane.snapshot(SIDECAR).value.of(EXTENSION) if "9080" in name] == []


def test_what_takes_nothing_away_is_no_turn() -> None:
    mesh = Turning(SERVICE, ENTRY)
    mesh.edit(SERVICE, ENTRY, OTHER)
    mesh.opens()
    mesh.edit(SERVICE.replace("8080", "8081"), ENTRY, OTHER)
    assert mesh.transition.turns.value == 0
