from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, compiled, networking

from isthmus.model.workload import Command, Interception, Network, Placement, WorkloadPort


def workload(spec: str, metadata: str = "") -> str:
    text = networking("LocalWorkload", spec, "orders").replace("networking.istio.io/v1", "isthmus.dev/v1alpha1")
    return text.replace("namespace: shop}", f"namespace: shop{metadata}}}")


def test_a_program_with_everything() -> None:
    done = compiled(
        workload(
            """
            labels: {app: orders}
            serviceAccount: orders
            command: [python, app.py]
            args: ["--fast"]
            env: {LEVEL: debug}
            workingDirectory: apps/orders
            ports:
            - {name: http, number: 8080, listen: 18080}
            - {name: admin, number: 9000}
            upstreams: [{host: orders, port: 80, bind: "127.0.0.1:7000"}]
            """
        ),
        ORDERS,
    )
    assert done.found == []
    (found,) = done.mesh.workloads
    assert (found.labels, found.service_account, found.address) == ({"app": "orders"}, "orders", "127.0.0.1")
    assert found.placement is Placement.LOCAL
    assert found.mutual_tls
    assert found.command == Command(("python", "app.py", "--fast"), {"LEVEL": "debug"}, "apps/orders")
    assert found.ports == (WorkloadPort("http", 8080, 18080), WorkloadPort("admin", 9000, None))
    (upstream,) = found.upstreams
    assert (upstream.host, upstream.port, upstream.bind) == ("orders.shop.svc.cluster.local", 80, "127.0.0.1:7000")


def test_the_defaults() -> None:
    done = compiled(workload("ports: []", ", labels: {app: orders}"))
    assert done.found == []
    (found,) = done.mesh.workloads
    assert (found.labels, found.service_account, found.command) == ({"app": "orders"}, "default", None)


def test_an_upstream_gets_a_free_port_and_must_exist() -> None:
    done = compiled(workload("upstreams: [{host: order, port: 80}]"), ORDERS)
    assert done.found == ["5:22 error IST0101"]
    assert 'no service named "order" (did you mean "orders"?)' in done.messages
    assert done.mesh.workloads[0].upstreams[0].bind == "127.0.0.1:0"


def test_the_port_of_an_upstream_must_exist() -> None:
    done = compiled(workload("upstreams: [{host: orders, port: 81}]"), ORDERS)
    assert done.found == ["5:36 error IST0101"]
    assert 'no port of orders.shop.svc.cluster.local named "81" (it has 80)' in done.messages


def test_two_workloads_of_one_name() -> None:
    done = compiled(workload("ports: []"), networking("WorkloadEntry", "address: 127.0.0.1", "orders"))
    assert done.found == ["3:18 error ISM2104"]
    assert [each.origin.ref.kind for each in done.mesh.workloads] == ["WorkloadEntry"]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("command: []", "5:12 error ISM1106"),
        ("command: python app.py", "5:12 error ISM1102"),
        ("args: [x]", "5:3 error ISM1106"),
        ('env: {"A B": c}', "5:8 error ISM1106"),
        ("ports: [{name: http, number: 1}, {name: http, number: 2}]", "5:10 error ISM1106"),
        ("ports: [{name: a, number: 1}, {name: b, number: 1}]", "5:10 error ISM1106"),
        ('ports: [{name: "a b", number: 1}]', "5:18 error ISM1106"),
        ("ports: [{name: a}]", "5:11 error ISM1103"),
        ('upstreams: [{host: orders, port: 80, bind: "0.0.0.0:80"}]', "5:46 error ISM1106"),
        ('upstreams: [{host: orders, port: 80, bind: "127.0.0.1"}]', "5:46 error ISM1106"),
        ('upstreams: [{host: orders, port: 80, bind: "127.0.0.1:70000"}]', "5:46 error ISM1106"),
        ("comand: [x]", "5:3 error ISM1101"),
    ],
)
def test_workloads_that_cannot_be_read(spec: str, found: str) -> None:
    done = compiled(workload(spec), ORDERS)
    assert done.found == [found]
    assert not done.mesh.workloads


@pytest.mark.parametrize(
    ("spec", "network"),
    [
        ("command: [web]", Network.ISOLATED),
        ("{command: [web], network: Isolated}", Network.ISOLATED),
        ("{command: [web], network: Host}", Network.HOST),
        ("ports: []", Network.HOST),
        ("network: Host", Network.HOST),
    ],
)
def test_what_is_started_here_has_a_network_of_its_own_unless_it_says_otherwise(spec: str, network: Network) -> None:
    done = compiled(workload(spec))
    assert done.found == []
    assert done.mesh.workloads[0].network is network


def test_a_program_that_nobody_starts_cannot_be_isolated() -> None:
    """ISM2180."""
    done = compiled(workload("network: Isolated"))
    assert done.found == ["5:12 error ISM2180"]
    assert done.mesh.workloads[0].network is Network.HOST


def test_who_goes_out_by_itself_needs_the_machines_network() -> None:
    """ISM2181."""
    around = ", annotations: {traffic.sidecar.istio.io/excludeOutboundIPRanges: 192.0.2.0/24}"
    assert compiled(workload("command: [web]", around)).mesh.workloads[0].network is Network.HOST
    done = compiled(workload("{command: [web], network: Isolated}", around))
    assert [each.rpartition(" ")[2] for each in done.found] == ["ISM2181"]
    assert done.mesh.workloads[0].network is Network.ISOLATED


def test_a_network_that_is_none() -> None:
    done = compiled(workload("{command: [web], network: isolated}"))
    assert done.found == ["5:29 error ISM1106"]
    assert '"isolated" is not one of Host, Isolated' in done.messages


@pytest.mark.parametrize(
    "spec", ["{command: [web], network: Host, interceptionMode: REDIRECT}", "interceptionMode: REDIRECT"]
)
def test_calls_are_redirected_in_a_network_of_its_own_only(spec: str) -> None:
    """ISM2182."""
    done = compiled(workload(spec))
    assert [found.partition(" ")[2] for found in done.found] == ["error ISM2182"]
    (made,) = done.mesh.workloads
    assert made.interception is Interception.NONE


def test_calls_are_redirected_where_it_is_said() -> None:
    (made,) = compiled(workload("{command: [web], interceptionMode: REDIRECT}")).mesh.workloads
    assert made.interception is Interception.REDIRECT
    assert "TPROXY" in compiled(workload("{command: [web], interceptionMode: TPROXY}")).messages
