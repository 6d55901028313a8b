from __future__ import annotations

import pytest
from traffic_manifest import compiled, networking

from isthmus.model.cluster import Endpoint, Protocol, Resolution, ServicePort

PORTS = "ports: [{number: 443, name: https, protocol: HTTPS}]"


def entry(spec: str, **options: str) -> str:
    return networking("ServiceEntry", spec, "pay", **options)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_static_endpoints(version: str) -> None:
    done = compiled(
        entry(
            """
            hosts: [Pay.example.com, pay.internal]
            ports: [{number: 80, name: http, protocol: http, targetPort: 8080}]
            location: MESH_INTERNAL
            resolution: STATIC
            endpoints:
            - {address: 10.0.0.1, ports: {http: 9000}, labels: {v: "1"}, weight: 5, serviceAccount: pay}
            - {address: 10.0.0.2}
            """,
            version=version,
        )
    )
    assert done.found == []
    assert list(done.mesh.services) == ["pay.example.com", "pay.internal"]
    service = done.mesh.services["pay.example.com"]
    assert (service.resolution, service.external, service.namespace) == (Resolution.STATIC, False, "shop")
    assert service.ports == (ServicePort(80, "http", Protocol.HTTP, 8080),)
    assert service.endpoints == (
        Endpoint("10.0.0.1", {"http": 9000}, {"v": "1"}, 5, "pay"),
        Endpoint("10.0.0.2", {}, {}, 1, None),
    )


def test_the_defaults_are_external_and_without_resolution() -> None:
    done = compiled(entry(f'hosts: ["*.example.com"]\n{PORTS}'))
    assert done.found == []
    service = done.mesh.services["*.example.com"]
    assert (service.resolution, service.external, service.selector) == (Resolution.NONE, True, None)
    assert service.ports[0].protocol is Protocol.HTTPS


def test_dns_and_a_selector() -> None:
    dns = compiled(entry(f"hosts: [pay.example.com]\n{PORTS}\nresolution: DNS"))
    assert dns.found == []
    assert dns.mesh.services["pay.example.com"].resolution is Resolution.DNS
    selected = compiled(
        entry(f"hosts: [pay.internal]\n{PORTS}\nresolution: STATIC\nworkloadSelector: {{labels: {{app: pay}}}}")
    )
    assert selected.found == []
    service = selected.mesh.services["pay.internal"]
    assert (service.resolution, service.selector) == (Resolution.WORKLOADS, {"app": "pay"})


def test_round_robin_is_dns_of_one_name() -> None:
    done = compiled(entry(f"hosts: [pay.example.com]\n{PORTS}\nresolution: DNS_ROUND_ROBIN"))
    assert done.found == []
    assert done.mesh.services["pay.example.com"].resolution is Resolution.DNS_ROUND_ROBIN
    several = "resolution: DNS_ROUND_ROBIN\nendpoints: [{address: a.b}, {address: c.d}]"
    assert compiled(entry(f"hosts: [pay.example.com]\n{PORTS}\n{several}")).found == ["8:31 error ISM1106"]


def test_static_without_endpoints_is_warned_about() -> None:
    done = compiled(entry(f"hosts: [pay.internal]\n{PORTS}\nresolution: STATIC"))
    assert done.found == ["7:15 warning ISM2103"]


def test_a_port_without_a_protocol_is_http() -> None:
    done = compiled(entry("hosts: [pay.internal]\nports: [{number: 80, name: web}]"))
    assert done.found == ["6:11 info IST0118"]
    assert done.mesh.services["pay.internal"].ports[0].protocol is Protocol.HTTP


def test_two_entries_for_one_host() -> None:
    text = f"hosts: [pay.internal]\n{PORTS}"
    done = compiled(entry(text), entry(text, namespace="other"))
    assert done.found == ["12:11 error ISM2102"]
    assert done.mesh.services["pay.internal"].namespace == "shop"


def test_addresses_are_those_of_the_first_host() -> None:
    done = compiled(entry(f"hosts: [a.b, c.d]\n{PORTS}\naddresses: [10.0.0.9, 10.0.1.0/24, 'fd00::9']"))
    assert done.found == ["7:25 warning ISM2163"]
    assert done.mesh.services["a.b"].addresses == ("10.0.0.9", "fd00::9")
    assert done.mesh.services["c.d"].addresses == ()


def test_names_of_certificates() -> None:
    done = compiled(entry(f"hosts: [a.b, c.d]\n{PORTS}\nsubjectAltNames: [x.y]"))
    assert done.found == []
    assert {service.subject_alt_names for service in done.mesh.services.values()} == {("x.y",)}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (f'hosts: ["*"]\n{PORTS}', "5:11 error ISM1106"),
        (f"hosts: []\n{PORTS}", "5:10 error ISM1106"),
        ("hosts: [a.b]", "5:3 error ISM1103"),
        ("hosts: [a.b]\nports: [{number: 1, name: a, protocol: FTP}]", "6:42 error ISM1106"),
        ("hosts: [a.b]\nports: [{number: 1, name: a}, {number: 2, name: a}]", "6:10 error ISM1106"),
        ("hosts: [a.b]\nports: [{number: 1, name: a}, {number: 1, name: b}]", "6:10 error ISM1106"),
        (f'hosts: ["*.a.b"]\n{PORTS}\nresolution: DNS', "5:11 error ISM1106"),
        (f"hosts: [a.b]\n{PORTS}\nresolution: DYNAMIC_DNS", "7:15 error ISM1106"),
        (f"hosts: [a.b]\n{PORTS}\nendpoints: [{{address: 10.0.0.1}}]", "7:14 error ISM1106"),
        (f"hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: c.d}}]", "8:25 error ISM1106"),
        (
            f"hosts: [a.b]\n{PORTS}\nresolution: STATIC\nendpoints: [{{address: 10.0.0.1, ports: {{x: 1}}}}]",
            "8:46 error ISM1106",
        ),
        (
            f"hosts: [a.b]\n{PORTS}\nresolution: DNS\nendpoints: [{{address: c}}]\nworkloadSelector: {{}}",
            "9:21 error ISM1106",
        ),
        (f"hosts: [a.b]\n{PORTS}\naddresses: [a.b]", "7:15 error ISM1106"),
        (f'hosts: [a.b]\n{PORTS}\nexportTo: ["."]', "7:13 error ISM1105"),
    ],
)
def test_entries_that_cannot_be_read(spec: str, found: str) -> None:
    done = compiled(entry(spec))
    assert done.found == [found]
    assert not done.mesh.services
