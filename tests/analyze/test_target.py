from __future__ import annotations

from isthmus.analyze.target import targets
from isthmus.model.cluster import Protocol
from tests.analyze.manifest import DATABASE, GATEWAY, ORDERS, mesh_of


def deployment(name: str, namespace: str = "shop") -> str:
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{template: {{metadata: {{labels: {{app: {name}}}}}}}}}\n"
    )


def test_each_is_named_once() -> None:
    mesh = mesh_of(GATEWAY, ORDERS, deployment("orders"), deployment("edge", "edge"), deployment("database"), DATABASE)
    assert [(each.key, each.gateway) for each in targets(mesh)] == [
        ("edge/edge", True),
        ("shop/orders-1", False),
        ("shop/database-1", False),
    ]


def test_a_port_is_spoken_to_as_its_service_says() -> None:
    orders, database = targets(mesh_of(ORDERS, DATABASE))
    assert orders.ports == {8080: Protocol.HTTP}
    assert database.ports == {5432: Protocol.TCP}


def test_a_deployment_without_workloads_has_the_ports_of_its_services() -> None:
    service = DATABASE.split("---\n")[0].replace("port: 5432", "port: 80, targetPort: 5432")
    (only,) = targets(mesh_of(service, deployment("database")))
    assert (only.key, only.ports) == ("shop/database", {5432: Protocol.TCP})


def test_whose_policies_select_a_gateway() -> None:
    beside = GATEWAY.replace("namespace: edge", "namespace: other").replace("number: 80", "number: 81")
    (only,) = targets(mesh_of(GATEWAY, beside))
    assert only.namespaces == {"edge", "other"}
    assert [one.key for one in only.gateways] == ["edge/edge", "other/edge"]
    (only,) = targets(mesh_of(GATEWAY, beside, deployment("edge", "edge")))
    assert only.namespaces == {"edge"}
