from __future__ import annotations

from isthmus.analyze.place import Place, Places
from isthmus.model.mesh import Mesh
from tests.analyze.manifest import DATABASE, GATEWAY, ORDERS, ROUTES, mesh_of

TWO_SERVERS = (
    GATEWAY
    + """\
    - port: {number: 81, name: more, protocol: HTTP}
      hosts: [shop.example.com]
    - port: {number: 82, name: others, protocol: HTTP}
      hosts: [other.example.com]
    - port: {number: 5432, name: db, protocol: TCP}
      hosts: ['*']
"""
)
CONNECTIONS = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec: {hosts: ['*'], gateways: [edge/edge], tcp: [{route: [{destination: {host: database}}]}]}
"""


def access(name: str, attached: str, namespace: str = "shop") -> str:
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return f"{head}spec:\n  {attached}\n  rules: [{{methods: [GET]}}]\n"


def held(mesh: Mesh, name: str) -> list[tuple[str, str]]:
    """Where the AccessPolicy of that name holds: names, and the servers of gateways."""
    (policy,) = (one for one in mesh.policies.access if one.name == name)
    return [(one.name, one.route.server if one.route else "") for one in Places(mesh).of("access", policy)]


def test_a_virtual_service_is_where_its_hosts_are() -> None:
    named = access("it", "targetRefs: [{kind: VirtualService, name: shop}]")
    mesh = mesh_of(TWO_SERVERS, ROUTES, ORDERS, named)
    assert held(mesh, "it") == [("edge/edge for shop/shop", "http"), ("edge/edge for shop/shop", "more")]


def test_the_most_specific_holds() -> None:
    all_ = access("all", "selector: {}", "edge")
    server = access("server", "targetRefs: [{kind: Gateway, name: edge, sectionName: more}]", "edge")
    workload = access("workload", "selector: {matchLabels: {app: orders}}")
    mesh = mesh_of(TWO_SERVERS, ROUTES, ORDERS, all_, server, workload)
    assert held(mesh, "all") == [("edge/edge for shop/shop", "http")]
    assert held(mesh, "server") == [("edge/edge for shop/shop", "more")]
    assert held(mesh, "workload") == [("shop/orders-1", "")]


def test_servers_of_connections() -> None:
    mesh = mesh_of(TWO_SERVERS, CONNECTIONS, DATABASE, access("all", "selector: {}", "edge"))
    (policy,) = mesh.policies.access
    (one,) = Places(mesh).of_connections("access", policy)
    assert one.route is not None
    assert (one.name, one.route.server) == ("edge/edge for shop/db", "db")
    assert not list(Places(mesh).of("access", policy))


def test_what_holds_at_a_place() -> None:
    mesh = mesh_of(GATEWAY, ROUTES, ORDERS, access("a", "selector: {}"), access("b", "selector: {}"))
    (orders,) = (one for one in Places(mesh).targets if not one.gateway)
    assert [one.name for one in Places(mesh).holding("access", Place(orders))] == ["a", "b"]
