"""Which policies hold for a proxy, and at one of its routes."""

from __future__ import annotations

from isthmus.model.attachment import RoutePlace
from isthmus.model.mesh import Mesh
from isthmus.model.world import World
from isthmus.xds.attached import attached, concerns, named_at, policies_at, policies_of
from isthmus.xds.context import Context

from .making import compiled, context_of, entry, gateway, networking, service

EDGE, ORDERS = "gateway~shop~edge", "sidecar~shop~orders-1"
ROUTES = networking(
    "VirtualService",
    "orders",
    """
    hosts: [shop.example.com]
    gateways: [edge]
    http:
    - {name: read, match: [{method: {exact: GET}}], route: [{destination: {host: orders}}]}
    - {name: write, route: [{destination: {host: orders}}]}
    """,
)
READ = RoutePlace("shop/edge", "http", "shop/orders", "read")
WRITE = RoutePlace("shop/edge", "http", "shop/orders", "write")


def policy(name: str, attach: str, namespace: str = "shop") -> str:
    return (
        f"apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n  {attach}\n  rules: [{{methods: [GET]}}]\n"
    )


ALL = (
    policy("mesh", "selector:", "istio-system"),
    policy("namespace", "selector:"),
    policy("orders", "selector: {matchLabels: {app: orders}}"),
    policy("gateway", "targetRefs: [{kind: Gateway, name: edge}]"),
    policy("read", "targetRefs: [{kind: VirtualService, name: orders, sectionName: read}]"),
)


def context(*policies: str, proxy: str = EDGE) -> Context:
    mesh = compiled(service("orders"), entry("orders-1"), gateway(), ROUTES, *policies).mesh
    return context_of(mesh, proxy)


def names(policies: tuple[object, ...]) -> list[str]:
    return [str(getattr(policy, "name", None)) for policy in policies]


def test_of_a_sidecar_labels_are_the_closest() -> None:
    found = context(*ALL, proxy=ORDERS)
    assert names(policies_of(found, "access")) == ["orders"]
    assert names(attached(found, "access")) == ["orders"], "names of routes are a gateway's business"


def test_of_a_gateway_what_no_route_is_named_by_and_what_one_is() -> None:
    found = context(*ALL)
    assert names(policies_of(found, "access")) == ["namespace"]
    assert names(policies_at(found, "access", READ)) == ["read"]
    assert names(policies_at(found, "access", WRITE)) == ["gateway"]
    assert names(named_at(found, "access", WRITE)) == ["gateway"]
    assert names(attached(found, "access")) == ["namespace", "gateway", "read"]


def test_a_route_that_nothing_names_is_as_the_gateway() -> None:
    found = context(*ALL[:2], ALL[4])
    assert names(policies_at(found, "access", WRITE)) == ["namespace"]
    assert named_at(found, "access", WRITE) == ()


def test_where_there_is_no_policy_none_concerns() -> None:
    assert not concerns(context(), "access")
    assert not concerns(context(*ALL), "limits")
    assert concerns(context(ALL[4]), "access")
    assert not concerns(context(ALL[4], proxy=ORDERS), "access")
    assert Context(Mesh(), World(), context().proxy).mesh.targeted_kinds == frozenset()
