from __future__ import annotations

from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.model.cluster import Subset
from isthmus.model.mesh import Mesh
from isthmus.model.world import Address, World
from isthmus.xds.endpoint import Backend, backends, build_load_assignment, in_subset

from .making import compiled, entry, networking, origin, security, service

STRICT = security("PeerAuthentication", "default", "{mtls: {mode: STRICT}}")
DISABLED = security("PeerAuthentication", "default", "{mtls: {mode: DISABLE}}")


def remote(name: str, spec: str) -> str:
    return networking("WorkloadEntry", name, spec)


def found(mesh: Mesh, host: str = "orders.shop.svc.cluster.local", world: World | None = None) -> list[Backend]:
    asked = mesh.services[host]
    return list(backends(mesh, world or offline_world(mesh), asked, asked.ports[0]))


def places(*texts: str, host: str = "orders.shop.svc.cluster.local") -> list[str]:
    return [str(one.address) for one in found(compiled(*texts).mesh, host)]


def test_a_workload_of_this_machine_is_reached_through_its_sidecar_alone() -> None:
    mesh = compiled(service("orders"), entry("orders-1")).mesh
    (one,) = found(mesh)
    assert one.address == offline_world(mesh).address("sidecar~shop~orders-1", "inbound", 8080)
    assert one.address.port != 8080
    assert found(mesh, world=World()) == [], "no listener yet: nobody, never the program itself"


def test_a_workload_elsewhere_is_reached_at_its_own_address() -> None:
    assert places(service("orders"), remote("orders-1", "{address: 192.0.2.1, labels: {app: orders}}")) == [
        "192.0.2.1:8080"
    ]


@pytest.mark.parametrize(
    ("ports", "entry_ports", "expected"),
    [
        ("{name: http, port: 80, targetPort: 8080}", "{}", 8080),
        ("{name: http, port: 80}", "{}", 80),
        ("{name: http, port: 80, targetPort: 8080}", "{http: 9090}", 9090),
        ("{name: http, port: 80, targetPort: web}", "{web: 7070}", 7070),
        ("{name: http, port: 80, targetPort: web}", "{}", None),
    ],
)
def test_which_port_a_service_means(ports: str, entry_ports: str, expected: int | None) -> None:
    one = remote("orders-1", f"{{address: 192.0.2.1, labels: {{app: orders}}, ports: {entry_ports}}}")
    assert places(service("orders", ports), one) == ([f"192.0.2.1:{expected}"] if expected else [])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((entry("orders-1"),), True),
        ((entry("orders-1"), STRICT), True),
        ((entry("orders-1"), DISABLED), False),
        ((remote("orders-1", "{address: 192.0.2.1, labels: {app: orders}}"),), False),
        (
            (remote("orders-1", "{address: 192.0.2.1, labels: {app: orders, security.istio.io/tlsMode: istio}}"),),
            True,
        ),
    ],
)
def test_who_takes_mutual_tls(texts: tuple[str, ...], expected: bool) -> None:
    (one,) = found(compiled(service("orders"), *texts).mesh)
    assert one.mutual_tls is expected


def test_identity_weight_and_labels_are_the_workloads() -> None:
    spec = "{address: 192.0.2.1, labels: {app: orders, version: v1}, serviceAccount: orders, weight: 5}"
    (one,) = found(compiled(service("orders"), remote("orders-1", spec)).mesh)
    assert (one.identity, one.weight) == ("spiffe://cluster.local/ns/shop/sa/orders", 5)
    version = Subset("v1", {"version": "v1"}, None, origin())
    assert in_subset((one,), version) == (one,)
    assert in_subset((one,), Subset("v2", {"version": "v2"}, None, origin())) == ()
    assert in_subset((one,), None) == (one,)


def service_entry(spec: str) -> str:
    return networking("ServiceEntry", "api", f"hosts: [api.example.com]\n{spec}")


def test_a_service_entry_by_dns_is_its_own_host() -> None:
    text = service_entry("resolution: DNS\nports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]")
    (one,) = found(compiled(text).mesh, "api.example.com")
    assert (str(one.address), one.mutual_tls) == ("api.example.com:8080", False)


def test_declared_endpoints_have_ports_by_name() -> None:
    text = service_entry(
        "resolution: STATIC\nports: [{number: 80, name: http, protocol: HTTP}]\n"
        "endpoints: [{address: 192.0.2.1}, {address: 192.0.2.2, ports: {http: 8080}}]"
    )
    assert places(text, host="api.example.com") == ["192.0.2.1:80", "192.0.2.2:8080"]


@pytest.mark.parametrize(("account", "expected"), [("", "default"), (", serviceAccount: api", "api")])
def test_a_declared_endpoint_that_takes_mutual_tls_has_an_identity_to_expect(account: str, expected: str) -> None:
    """Without one there would be nobody to trust, and plaintext is what would be left."""
    text = service_entry(
        "resolution: STATIC\nlocation: MESH_INTERNAL\nports: [{number: 80, name: http, protocol: HTTP}]\n"
        f"endpoints: [{{address: 192.0.2.1, labels: {{security.istio.io/tlsMode: istio}}{account}}}]"
    )
    (one,) = found(compiled(text).mesh, "api.example.com")
    assert (one.mutual_tls, one.identity) == (True, f"spiffe://cluster.local/ns/shop/sa/{expected}")


def test_nobody_stands_behind_a_host_that_resolves_to_nothing() -> None:
    assert places(service_entry("ports: [{number: 80, name: http, protocol: HTTP}]"), host="api.example.com") == []
    assert places(service("orders")) == []


def test_the_assignment() -> None:
    secured = Backend(Address("192.0.2.1", 80), True, "spiffe://x", 3, {})
    built = build_load_assignment("orders", (secured, Backend(Address("192.0.2.2", 80), False, None, 1, {})))
    (locality,) = built.endpoints
    first, second = locality.lb_endpoints
    assert (first.load_balancing_weight.value, second.load_balancing_weight.value) == (3, 1)
    marked: Any = first.metadata.filter_metadata["envoy.transport_socket_match"]
    assert dict(marked) == {"tlsMode": "istio"}
    assert not second.HasField("metadata")
    assert not build_load_assignment("orders", ()).endpoints
