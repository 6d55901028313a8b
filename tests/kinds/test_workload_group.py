from __future__ import annotations

from datetime import timedelta

import pytest
from traffic_manifest import compiled, networking

from isthmus.model.probe import Exec, HttpGet, Probe, TcpSocket, probe_from_json, probe_to_json


def group(spec: str) -> str:
    return networking("WorkloadGroup", spec, name="orders")


def test_a_group_is_what_its_members_have_in_common() -> None:
    done = compiled(
        group(
            """
            metadata: {labels: {app: orders}}
            template: {ports: {http: 8080}, labels: {app: other, tier: back}, serviceAccount: orders, weight: 3}
            """
        )
    )
    assert done.found == []
    found = done.mesh.workload_groups["shop/orders"]
    assert found.labels == {"app": "orders", "tier": "back"}, "the labels of the metadata win"
    assert (found.ports, found.service_account, found.weight, found.probe) == ({"http": 8080}, "orders", 3, None)
    assert done.mesh.workloads == (), "members register themselves"


@pytest.mark.parametrize(
    ("probe", "action"),
    [
        (
            "httpGet: {path: /a, port: 1, host: x, scheme: HTTPS, httpHeaders: [{name: n, value: v}]}",
            HttpGet(1, "/a", "x", "https", (("n", "v"),)),
        ),
        ("httpGet: {port: 80}", HttpGet(80)),
        ("tcpSocket: {port: 5432}", TcpSocket(5432)),
        ("exec: {command: [test, -e, x]}", Exec(("test", "-e", "x"))),
    ],
)
def test_probes_are_read(probe: str, action: HttpGet | TcpSocket | Exec) -> None:
    done = compiled(group(f"template: {{}}\nprobe: {{{probe}}}"))
    assert done.found == []
    found = done.mesh.workload_groups["shop/orders"].probe
    assert found == Probe(action)
    assert probe_from_json(probe_to_json(Probe(action))) == Probe(action)


def test_times_and_thresholds_are_read() -> None:
    wanted = "initialDelaySeconds: 5, timeoutSeconds: 3, periodSeconds: 4, successThreshold: 3, failureThreshold: 2"
    done = compiled(group(f"template: {{}}\nprobe: {{{wanted}, tcpSocket: {{port: 1}}}}"))
    seconds = [timedelta(seconds=number) for number in (5, 3, 4)]
    assert done.mesh.workload_groups["shop/orders"].probe == Probe(TcpSocket(1), *seconds, 3, 2)


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("{}", "ISM1103"),
        ("template: {}\nprobe: {}", "ISM1106"),
        ("template: {}\nprobe: {tcpSocket: {port: 1}, exec: {command: [x]}}", "ISM1106"),
        ("template: {}\nprobe: {grpc: {port: 1}}", "ISM2101"),
        ("template: {}\nprobe: {httpGet: {port: 1, path: x}}", "ISM1106"),
        ("template: {}\nprobe: {httpGet: {port: 1, scheme: FTP}}", "ISM1106"),
        ('template: {}\nprobe: {httpGet: {port: 1, httpHeaders: [{name: "a\\nb"}]}}', "ISM1106"),
        ("template: {}\nprobe: {exec: {command: []}}", "ISM1106"),
        ("template: {}\nprobe: {tcpSocket: {port: 1}, periodSeconds: 0}", "ISM1106"),
        ("template: {}\nprobe: {tcpSocket: {port: 1}, initialDelaySeconds: -1}", "ISM1106"),
    ],
)
def test_what_is_wrong_is_told(spec: str, code: str) -> None:
    done = compiled(group(spec))
    assert any(code in found for found in done.found)
    assert "shop/orders" not in done.mesh.workload_groups


def test_fields_without_effect_are_told() -> None:
    done = compiled(group("template: {address: 10.0.0.1, network: n, locality: l}\nmetadata: {annotations: {a: b}}"))
    assert sum("ISM1104" in found for found in done.found) == 4
