from __future__ import annotations

from isthmus.control.offline import offline_world
from tests.xds.making import compiled, entry, gateway, networking, service


def test_gateways_have_their_declared_ports_everything_else_counted_ones() -> None:
    mesh = compiled(service("orders"), entry("orders-1"), gateway(port=80)).mesh
    world = offline_world(mesh)
    assert str(world.address("gateway~shop~edge", "gateway", 80)) == "127.0.0.1:80"
    assert {address.port for key, address in world.addresses.items() if key.purpose != "gateway"} == {20001, 20002}
    assert world.jwks == {}
    assert world.outbound_credentials == {"sidecar~shop~orders-1": "not-a-credential"}


def test_the_same_whatever_the_order_of_the_documents() -> None:
    texts = (service("orders"), entry("orders-1"), entry("users-1"), gateway())
    assert offline_world(compiled(*texts).mesh) == offline_world(compiled(*reversed(texts)).mesh)


def test_a_port_that_the_manifest_fixes_is_that_port() -> None:
    text = networking("LocalWorkload", "web", "upstreams: [{host: orders, port: 1, bind: '127.0.0.1:18080'}]")
    world = offline_world(
        compiled(service("orders"), text.replace("networking.istio.io/v1", "isthmus.dev/v1alpha1")).mesh
    )
    assert str(world.address("sidecar~shop~web", "upstream", 0)) == "127.0.0.1:18080"
