from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, compiled, core, networking

from isthmus.model.workload import Placement, WorkloadPort


def entry(spec: str, **metadata: str) -> str:
    return networking("WorkloadEntry", spec, name="orders-1", **metadata)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_a_loopback_address_is_a_workload_of_this_machine(version: str) -> None:
    done = compiled(
        entry(
            """
            address: 127.0.0.1
            ports: {http: 8080}
            labels: {app: orders}
            serviceAccount: orders
            weight: 3
            """,
            version=version,
        )
    )
    assert done.found == []
    (workload,) = done.mesh.workloads
    assert (workload.name, workload.namespace, workload.service_account) == ("orders-1", "shop", "orders")
    assert workload.placement is Placement.LOCAL
    assert workload.mutual_tls
    assert workload.weight == 3
    assert workload.ports == (WorkloadPort("http", 8080, 8080),)


@pytest.mark.parametrize(
    ("address", "placement"),
    [
        ('"::1"', Placement.LOCAL),
        ("localhost", Placement.LOCAL),
        ("Localhost.", Placement.LOCAL),
        ("127.8.8.8", Placement.LOCAL),
        ("10.0.0.7", Placement.REMOTE),
        ("vm1.example.com", Placement.REMOTE),
    ],
)
def test_where_a_workload_runs_follows_from_its_address(address: str, placement: Placement) -> None:
    (workload,) = compiled(entry(f"address: {address}")).mesh.workloads
    assert workload.placement is placement
    assert workload.mutual_tls is (placement is Placement.LOCAL)
    assert workload.service_account == "default"


def test_elsewhere_the_label_tells_whether_mutual_tls_is_taken() -> None:
    (workload,) = compiled(entry("address: 10.0.0.7\nlabels: {security.istio.io/tlsMode: istio}")).mesh.workloads
    assert workload.placement is Placement.REMOTE
    assert workload.mutual_tls


def test_labels_of_the_metadata_win() -> None:
    text = entry("address: 127.0.0.1\nlabels: {app: spec, version: v1}").replace(
        "namespace: shop}", "namespace: shop, labels: {app: metadata}}"
    )
    (workload,) = compiled(text).mesh.workloads
    assert workload.labels == {"app": "metadata", "version": "v1"}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("labels: {app: orders}", "5:3 error ISM1103"),
        ("address: unix:///tmp/x", "5:12 error ISM1106"),
        ("address: 0.0.0.0", "5:12 error ISM1106"),
        ('address: "not a host"', "5:12 error ISM1106"),
        ("address: 127.0.0.1\nports: {http: 0}", "6:17 error ISM1106"),
        ("address: 127.0.0.1\nweight: -1", "6:11 error ISM1106"),
        ("adress: 127.0.0.1\naddress: 127.0.0.1", "5:3 error ISM1101"),
    ],
)
def test_a_workload_that_cannot_be_read_is_left_out(spec: str, found: str) -> None:
    done = compiled(entry(spec))
    assert done.found == [found]
    assert not done.mesh.workloads


def test_network_and_locality_are_warned_about() -> None:
    done = compiled(entry("address: 127.0.0.1\nnetwork: n\nlocality: eu/1"))
    assert done.found == ["6:3 warning ISM1104", "7:3 warning ISM1104"]


def test_the_ports_that_services_mean_are_taken_too() -> None:
    done = compiled(entry("address: 127.0.0.1\nlabels: {app: orders}\nports: {admin: 9000}"), ORDERS)
    (workload,) = done.mesh.workloads
    assert done.mesh.inbound_ports(workload) == (WorkloadPort("admin", 9000, 9000), WorkloadPort("http", 8080, 8080))


@pytest.mark.parametrize(
    ("service_port", "ports", "number"),
    [
        ("{name: http, port: 80, targetPort: 8080}", "{http: 7000}", 7000),
        ("{name: http, port: 80, targetPort: 8080}", "{other: 7000}", 8080),
        ("{name: http, port: 80, targetPort: web}", "{web: 7001}", 7001),
        ("{name: http, port: 80, targetPort: web}", "{}", None),
        ("{name: http, port: 80}", "{}", 80),
    ],
)
def test_the_workloads_port_of_a_services_port(service_port: str, ports: str, number: int | None) -> None:
    done = compiled(
        core("Service", f"spec: {{selector: {{app: orders}}, ports: [{service_port}]}}", name="orders"),
        entry(f"address: 127.0.0.1\nlabels: {{app: orders}}\nports: {ports}"),
    )
    (orders,), (workload,) = done.mesh.services.values(), done.mesh.workloads
    assert done.mesh.workload_port(orders.ports[0], workload) == number
    assert {port.number for port in done.mesh.inbound_ports(workload)} >= ({number} if number else set())


def test_a_service_of_another_namespace_opens_no_port() -> None:
    done = compiled(entry("address: 127.0.0.1\nlabels: {app: orders}", namespace="other"), ORDERS)
    assert done.mesh.inbound_ports(done.mesh.workloads[0]) == ()
