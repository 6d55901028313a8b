"""What policies tell the filters of a port, and of one route of it: the filter's own name decides where it is read."""

from __future__ import annotations

from typing import Any

from isthmus.filters import FILTERS
from isthmus.xds.route_policy import ROUTE_POLICIES
from isthmus.xds.snapshot import EXTENSION, LISTENER, ROUTE, message

from .making import HCM, Given, entry, gateway, given_by, networking, service

EDGE = "gateway~shop~edge"
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
POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers, namespace: shop}
spec:
  targetRefs: [{kind: VirtualService, name: orders, sectionName: read}]
  rules: [{methods: [GET]}]
"""


def given(*policies: str) -> Given:
    return given_by(EDGE, service("orders"), entry("orders-1"), gateway(), ROUTES, *policies)


def routes(found: Given) -> dict[str, Any]:
    (wire,) = found.snapshot.of(ROUTE).values()
    configuration: Any = message(wire)
    return {route.name: route for host in configuration.virtual_hosts for route in host.routes}


def test_a_route_that_is_named_says_it_and_others_do_not() -> None:
    found = routes(given(POLICY))
    assert list(found["read"].typed_per_filter_config) == ["gateway_80/isthmus.access"]
    assert not found["write"].typed_per_filter_config
    assert not any(route.typed_per_filter_config for route in routes(given()).values())


def test_the_filter_that_reads_it_stands_in_the_chain() -> None:
    found = given(POLICY)
    assert "gateway_80/isthmus.access" in found.snapshot.of(EXTENSION)
    assert "gateway_80/isthmus.access" not in given().snapshot.of(EXTENSION)
    listener = str(found.snapshot.of(LISTENER)["gateway_80"].wire)
    assert "gateway_80/isthmus.access" in listener
    assert HCM in listener


def test_what_it_was_made_of_is_remembered() -> None:
    origins = given(POLICY).snapshot.of(EXTENSION)["gateway_80/isthmus.access"].origins
    assert [str(origin.ref) for origin in origins if origin.ref.kind == "AccessPolicy"] == ["AccessPolicy/shop/readers"]


def test_each_kind_has_one_entry_and_each_filter_at_routes_one_name() -> None:
    assert len({policy.kind for policy in ROUTE_POLICIES}) <= len(ROUTE_POLICIES)
    told = [filter_.route_config or filter_.config for filter_ in FILTERS if filter_.build_route is not None]
    assert len(told) == len(set(told)), "a configuration at a route means one filter"
