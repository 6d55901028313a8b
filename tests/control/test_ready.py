from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.control.offline import offline_world
from isthmus.control.ready import ready_document
from isthmus.model.world import World
from isthmus.proxy.place import Folders
from tests.xds.making import compiled, entry, gateway, networking, service

FOLDERS = Folders(Path("/state"), Path("/run/isthmus"))
MESH = compiled(
    service("orders"),
    entry("orders-1"),
    gateway(hosts="shop.example.com"),
    gateway("second", hosts="b.example.com"),
    networking("WorkloadEntry", "elsewhere", "{address: 192.0.2.1, labels: {app: orders}}"),
).mesh


def document(world: World | None = None) -> dict[str, Any]:
    return ready_document(MESH, world or offline_world(MESH), FOLDERS, 4711, "unix:///state/api.sock", "http://x:1")


def test_its_shape_is_a_contract() -> None:
    ready = document()
    assert list(ready) == ["pid", "state", "ca_bundle", "control_plane", "workload_api", "gateways", "workloads"]
    assert (ready["pid"], ready["state"], ready["ca_bundle"]) == (4711, "/state", "/state/ca/bundle.pem")
    assert ready["control_plane"] == {"api": "unix:///state/api.sock", "http": "http://x:1"}
    (edge,) = ready["gateways"]
    assert edge == {
        "name": "edge",
        "namespace": "shop",
        "spiffe_id": "spiffe://cluster.local/ns/shop/sa/edge",
        "admin_socket": str(FOLDERS.admin_socket("gateway~shop~edge")),
        "listeners": [{"declared_port": 80, "address": "127.0.0.1:80", "hosts": ["shop.example.com", "b.example.com"]}],
        "health_checks": [],
    }
    (orders,) = ready["workloads"]
    assert orders == {
        "name": "orders-1",
        "namespace": "shop",
        "spiffe_id": "spiffe://cluster.local/ns/shop/sa/default",
        "inbound": {"8080": "127.0.0.1:20001"},
        "outbound_proxy": "127.0.0.1:20002",
        "admin_socket": str(FOLDERS.admin_socket("sidecar~shop~orders-1")),
        "isolated": False,
    }


def test_what_has_no_address_is_not_told_of() -> None:
    ready = document(World())
    assert ready["gateways"][0]["listeners"] == []
    assert (ready["workloads"][0]["inbound"], ready["workloads"][0]["outbound_proxy"]) == ({}, "")


def test_who_is_in_a_network_of_its_own_is_told() -> None:
    world = replace(offline_world(MESH), isolated=frozenset({"sidecar~shop~orders-1"}))
    assert document(world)["workloads"][0]["isolated"] is True
