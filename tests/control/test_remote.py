from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.control.remote import entry
from isthmus.errors import Refused
from isthmus.kinds.workload_entry import NO_GROUP
from isthmus.model.offer import (
    GatewayOffer,
    OfferedPort,
    SidecarOffer,
    node_name_problem,
    offer_from_json,
    offer_to_json,
)
from isthmus.model.world import Address
from isthmus.xds.endpoint import backends

from .making import plane_of

MESH = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
    - {port: {number: 81, name: other, protocol: HTTP}, hosts: ["*"]}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
GROUP = """\
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: orders, namespace: shop}
spec:
  template: {labels: {app: orders}, ports: {http: 8080}, serviceAccount: orders}
  probe: {tcpSocket: {port: 8080}}
"""
PLANE = Address("plane.example.com", 15012)
EDGE = GatewayOffer("shop", "edge", "10.0.0.2", "/run/edge", {81: Address("192.0.2.1", 8081)}, PLANE)
ORDERS = SidecarOffer(
    "shop", "orders", "10.0.0.3", "/run/vm", 20001, {"app": "orders"}, (OfferedPort("http", 8080, 9000),)
)
MEMBER = SidecarOffer("shop", "default", "10.0.0.4", "/run/vm", 20001, group="orders")


def carried(**offers: Any) -> Any:
    plane = plane_of(MESH, GROUP)
    plane.inputs.offers = {name.replace("_", "-"): offer for name, offer in offers.items()}
    plane.rebuild()
    return plane


def at(plane: Any, proxy: str) -> dict[tuple[str, int], str]:
    return {(key.purpose, key.number): str(to) for key, to in plane.world.addresses.items() if key.proxy == proxy}


def test_a_gateway_is_where_it_is_carried() -> None:
    plane = carried(edge_1=EDGE)
    assert plane.mesh.proxies_by_id["gateway~shop~edge"].node == "edge-1"
    places = at(plane, "gateway~shop~edge")
    assert (places["gateway", 80], places["gateway", 81]) == ("10.0.0.2:80", "192.0.2.1:8081")
    assert places["metrics", 0].startswith("unix:///run/edge/")
    assert [proxy.id for proxy in plane.plan.value.proxies] == []
    assert [proxy.id for proxy in plane.node_plan("edge-1").value.proxies] == ["gateway~shop~edge"]


def test_a_program_elsewhere_is_a_workload_behind_its_sidecar() -> None:
    plane = carried(vm_1=ORDERS)
    places = at(plane, "sidecar~shop~vm-1")
    assert (places["inbound", 8080], places["app", 8080]) == ("10.0.0.3:8080", "127.0.0.1:9000")
    assert places["outbound", 0] == "127.0.0.1:20001"
    service = plane.mesh.services["orders.shop.svc.cluster.local"]
    plane.inputs.opened = plane.world.starting
    plane.rebuild()
    (found,) = backends(plane.mesh, plane.world, service, service.ports[0])
    assert (str(found.address), found.mutual_tls) == ("10.0.0.3:8080", True)
    assert found.identity == "spiffe://cluster.local/ns/shop/sa/orders"
    plan = plane.node_plan("vm-1").value
    assert [one.proxy for one in plan.workloads] == ["sidecar~shop~vm-1"]
    assert plan.workloads[0].env["PORT"] == "9000"
    assert "w:of sidecar~shop~vm-1@127.0.0.1:20001" in plan.workloads[0].env["http_proxy"]
    assert plane.plan.value.workloads == ()


def test_a_plan_is_of_one_node() -> None:
    plane = carried(edge_1=EDGE, vm_1=ORDERS, vm_2=replace(ORDERS, address="10.0.0.5"))
    for node, proxies in (("vm-1", ["sidecar~shop~vm-1"]), ("vm-2", ["sidecar~shop~vm-2"]), ("other", None)):
        plan = plane.node_plan(node).value
        assert (None if plan is None else [proxy.id for proxy in plan.proxies]) == proxies


def test_what_a_node_no_longer_carries_leaves_its_plan() -> None:
    plane = carried(vm_1=ORDERS)
    plane.inputs.offers = {}
    plane.rebuild()
    assert plane.node_plan("vm-1").value.proxies == ()
    assert "sidecar~shop~vm-1" not in plane.mesh.proxies_by_id


def test_a_member_of_a_group_is_what_the_group_says_and_well_when_it_says_so() -> None:
    plane = carried(vm_1=MEMBER)
    (workload,) = plane.mesh.workloads
    assert (workload.name, workload.labels, workload.service_account) == ("orders-vm-1", {"app": "orders"}, "orders")
    assert plane.world.is_unhealthy("sidecar~shop~orders-vm-1")
    assert plane.node_plan("vm-1").value.workloads[0].probe is not None
    plane.inputs.well = frozenset({"vm-1"})
    plane.rebuild()
    assert not plane.world.is_unhealthy("sidecar~shop~orders-vm-1")


def test_a_member_of_a_group_that_is_gone_is_left_out_and_told() -> None:
    plane = plane_of(MESH)
    plane.inputs.offers = {"vm-1": MEMBER}
    plane.rebuild()
    assert plane.mesh.workloads == ()
    (found,) = [one for one in plane.diagnostics if one.code is NO_GROUP]
    assert 'there is no WorkloadGroup "shop/orders"' in found.message


def test_what_the_user_wrote_under_the_same_name_stands_before_a_machine() -> None:
    written = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: shop}
spec: {address: 10.9.9.9, labels: {app: orders}}
"""
    plane = plane_of(MESH, written)
    plane.inputs.offers = {"vm-1": ORDERS}
    plane.rebuild()
    assert [one.address for one in plane.mesh.workloads] == ["10.9.9.9"]


def test_what_evicted_nodes_had_is_refused_where_nobody_has_it_now() -> None:
    plane = carried(vm_1=ORDERS)
    orders, billing = (f"spiffe://cluster.local/ns/shop/sa/{name}" for name in ("orders", "billing"))
    plane.inputs.evicted = frozenset({orders, billing})
    plane.rebuild()
    assert plane.world.revoked == {billing}


@pytest.mark.parametrize(
    "offer",
    [
        replace(ORDERS, namespace="Not A Namespace"),
        replace(ORDERS, service_account="a/b"),
        replace(ORDERS, address="0.0.0.0"),
    ],
)
def test_what_no_manifest_could_say_is_refused(offer: SidecarOffer) -> None:
    with pytest.raises(Refused):
        entry("vm-1", offer)


@pytest.mark.parametrize("offer", [EDGE, ORDERS, MEMBER])
def test_an_offer_reads_back(offer: GatewayOffer | SidecarOffer) -> None:
    assert offer_from_json(offer_to_json(offer)) == offer


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        {"gateway": {}},
        {"gateway": offer_to_json(EDGE)["gateway"] | {"address": "not an address"}},
        {"gateway": offer_to_json(EDGE)["gateway"] | {"runtime": "relative"}},
        {"sidecar": offer_to_json(ORDERS)["sidecar"] | {"outbound": 0}},
        {"sidecar": offer_to_json(ORDERS)["sidecar"] | {"labels": {"a": 1}}},
        {"sidecar": offer_to_json(ORDERS)["sidecar"] | {"labels": []}},
    ],
)
def test_what_is_no_offer_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        offer_from_json(wrong)


def test_names_of_nodes() -> None:
    assert node_name_problem("vm-7") is None
    for wrong in ("", "VM", "a.b", "-a", "local", "a" * 64):
        assert node_name_problem(wrong) is not None
