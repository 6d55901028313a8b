from __future__ import annotations

from typing import Any

import pytest

from isthmus.model.workload import Placement, Workload
from isthmus.xds.metadata import METADATA, build_metadata, service_metadata, workload_metadata
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, message

from .making import compiled, entry, given_by, mesh_config, networking, origin, service

EXTERNAL = networking(
    "ServiceEntry",
    "api",
    "{hosts: [api.example.com], location: MESH_EXTERNAL, resolution: DNS, "
    "ports: [{number: 443, name: tls, protocol: TLS}]}",
)


def told(metadata: Any) -> dict[str, str]:
    return {key: value.string_value for key, value in metadata.filter_metadata[METADATA].fields.items()}


@pytest.mark.parametrize(
    ("ports", "protocol"),
    [("{name: http, port: 80}", "http"), ("{name: grpc, port: 80}", "grpc"), ("{name: tcp-db, port: 80}", "tcp")],
)
def test_a_service(ports: str, protocol: str) -> None:
    mesh = compiled(service("orders", ports)).mesh
    orders = mesh.services["orders.shop.svc.cluster.local"]
    assert told(service_metadata(orders, orders.ports[0])) == {
        "host": "orders.shop.svc.cluster.local",
        "name": "orders",
        "namespace": "shop",
        "protocol": protocol,
    }


def test_a_service_outside_has_its_host_for_a_name() -> None:
    found = compiled(EXTERNAL).mesh.services["api.example.com"]
    assert told(service_metadata(found, found.ports[0]))["name"] == "api.example.com"


def test_a_workload() -> None:
    labels = {"app": "orders", "version": "v1", "team": "red"}
    one = Workload("orders-1", "shop", labels, "orders", "127.0.0.1", (), Placement.LOCAL, origin())
    about = {"workload": "orders-1", "namespace": "shop", "app": "orders", "version": "v1"}
    assert workload_metadata(one) == about
    assert told(build_metadata(about)) == about


def test_clusters_and_endpoints_carry_it() -> None:
    given = given_by("orders-1", service("orders"), entry("orders-1"), mesh_config("{}"))
    name = "outbound|8080||orders.shop.svc.cluster.local"
    cluster: Any = message(given.snapshot.of(CLUSTER)[name])
    inbound: Any = message(given.snapshot.of(CLUSTER)["inbound|8080||"])
    assert told(cluster.metadata) == told(inbound.metadata)
    assert told(cluster.metadata)["host"] == "orders.shop.svc.cluster.local"
    assignment: Any = message(given.snapshot.of(ENDPOINT)[name])
    assert told(assignment.endpoints[0].lb_endpoints[0].metadata)["workload"] == "orders-1"
    passed: Any = message(given.snapshot.of(CLUSTER)["PassthroughCluster"])
    assert told(passed.metadata) == {"name": "PassthroughCluster"}
