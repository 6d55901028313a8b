from __future__ import annotations

import pytest
from traffic_manifest import ORDERS, compiled, core, networking

from isthmus.model.cluster import Protocol, Resolution, ServicePort


def service(spec: str) -> str:
    return core("Service", "spec:\n" + "\n".join(f"  {line}" for line in spec.splitlines()), name="orders")


def test_a_service_has_its_full_name_aliases_ports_and_selector() -> None:
    done = compiled(ORDERS)
    assert done.found == []
    (orders,) = done.mesh.services.values()
    assert orders.host == "orders.shop.svc.cluster.local"
    assert orders.aliases == ("orders.shop", "orders.shop.svc")
    assert orders.resolution is Resolution.WORKLOADS
    assert orders.selector == {"app": "orders"}
    assert orders.ports == (ServicePort(80, "http", Protocol.HTTP, 8080),)
    assert not orders.external


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ("{name: http-web, port: 80}", Protocol.HTTP),
        ("{name: http2, port: 80}", Protocol.HTTP2),
        ("{name: grpc-api, port: 80}", Protocol.GRPC),
        ("{name: grpc-web-api, port: 80}", Protocol.GRPC),
        ("{name: https, port: 443}", Protocol.HTTPS),
        ("{name: tls-x, port: 443}", Protocol.TLS),
        ("{name: mysql, port: 80}", Protocol.TCP),
        ("{name: db, port: 3306}", Protocol.TCP),
        ("{name: web, port: 80, appProtocol: grpc}", Protocol.GRPC),
        ("{name: tcp, port: 80, appProtocol: kubernetes.io/h2c}", Protocol.HTTP2),
    ],
)
def test_the_protocol_comes_from_app_protocol_then_the_name_then_the_number(port: str, protocol: Protocol) -> None:
    done = compiled(service(f"ports: [{port}]"))
    assert done.found == []
    assert done.mesh.services["orders.shop.svc.cluster.local"].ports[0].protocol is protocol


def test_a_port_that_does_not_say_its_protocol_is_http_and_told_of() -> None:
    done = compiled(service("ports:\n- port: 80"))
    assert done.found == ["6:5 info IST0118"]
    assert done.mesh.services["orders.shop.svc.cluster.local"].ports[0].protocol is Protocol.HTTP


def test_a_named_target_is_kept_and_a_port_by_udp_left_out() -> None:
    done = compiled(
        service("ports:\n- {name: http, port: 80, targetPort: web}\n- {name: dns, port: 53, protocol: UDP}")
    )
    assert done.found == ["7:37 warning ISM1104"]
    assert done.mesh.services["orders.shop.svc.cluster.local"].ports == (ServicePort(80, "http", Protocol.HTTP, "web"),)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("ports:\n- {port: 80}\n- {name: http, port: 81}", "6:3 error ISM1106"),
        ("ports:\n- {name: http, port: 80}\n- {name: http, port: 81}", "6:3 error ISM1106"),
        ("ports:\n- {name: http, port: 80}\n- {name: web, port: 80}", "6:3 error ISM1106"),
        ("ports: [{name: http, port: 70000}]", "5:30 error ISM1106"),
        ("ports: [{name: http, port: 80, targetPort: [1]}]", "5:46 error ISM1102"),
        ("portz: []", "5:3 error ISM1101"),
        ("type: Cluster", "5:9 error ISM1106"),
        ("sessionAffinity: Client", "5:20 error ISM1106"),
        ("loadBalancerSourceRanges: [10.0.0.0/8]", "5:3 error ISM1105"),
    ],
)
def test_a_service_that_cannot_be_read_is_left_out(spec: str, found: str) -> None:
    done = compiled(service(spec))
    assert done.found == [found]
    assert not done.mesh.services


def test_external_name_has_no_effect_yet() -> None:
    done = compiled(service("type: ExternalName\nexternalName: shop.example.com"))
    assert done.found == ["5:9 warning ISM1104", "6:3 warning ISM1104"]
    assert not done.mesh.services


def test_session_affinity_is_warned_about_unless_none() -> None:
    ports = "\nports: [{name: http, port: 80}]"
    assert compiled(service("sessionAffinity: None" + ports)).found == []
    assert compiled(service("sessionAffinity: ClientIP" + ports)).found == ["5:20 warning ISM1104"]


def test_an_export_annotation_narrows_and_is_refused() -> None:
    text = ORDERS.replace(
        "{name: orders, namespace: shop}",
        '{name: orders, namespace: shop, annotations: {networking.istio.io/exportTo: "."}}',
    )
    done = compiled(text)
    assert done.found == ["3:87 error ISM1105"]
    assert not done.mesh.services


def test_a_host_is_declared_once() -> None:
    entry = networking(
        "ServiceEntry",
        """
        hosts: [orders.shop.svc.cluster.local]
        ports: [{number: 80, name: http, protocol: HTTP}]
        """,
    )
    done = compiled(entry, ORDERS)
    assert done.found == ["5:11 error ISM2102"]
    assert "Service/shop/orders already" in done.messages
    assert done.mesh.services["orders.shop.svc.cluster.local"].origin.ref.kind == "Service"
