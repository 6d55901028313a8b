"""What policies tell the filters of a port, and of one route of it: the filter's own name decides where it is read."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters import FILTERS
from isthmus.xds.route_policy import ROUTE_POLICIES
from isthmus.xds.snapshot import EXTENSION, LISTENER, ROUTE, message

from .making import HCM, Given, entry, gateway, given_by, hcm_of, networking, service

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
    return given_by(EDGE, service("orders"), entry("orders-1"), gateway(hosts="*"), ROUTES, *policies)


def routes(found: Given) -> dict[str, Any]:
    (wire,) = found.snapshot.of(ROUTE).values()
    configuration: Any = message(wire)
    return {route.name: route for host in configuration.virtual_hosts for route in host.routes}


def test_a_route_that_is_named_says_it_and_others_do_not() -> None:
    found = routes(given(POLICY))
    assert set(found["read"].typed_per_filter_config) == {
        "gateway_80/isthmus.access",
        "gateway_80/isthmus.access.reasons",
    }
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


CLAIMS = """\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec: {jwtRules: [{issuer: "https://a"}]}
"""
ASKED = networking(
    "VirtualService",
    "admin",
    """
    hosts: [admin.example.com]
    gateways: [edge]
    http: [{match: [{headers: {"@request.auth.claims.role": {exact: admin}}}], route: [{destination: {host: orders}}]}]
    """,
)
KEYS, REGO = (
    f"""\
apiVersion: isthmus.dev/v1alpha1
kind: {kind}
metadata: {{name: it, namespace: shop}}
spec:
  targetRefs: [{{kind: VirtualService, name: orders, sectionName: read}}]
  {spec}
"""
    for kind, spec in (
        ("ClientAuthentication", "methods: [{apiKey: {}}]"),
        ("RegoPolicy", 'rego: "package envoy.authz"'),
    )
)


def disabled(found: Given) -> dict[str, bool]:
    (chain,) = found.listener("gateway_80").filter_chains
    filters = hcm_of(chain).http_filters
    asking = ("gateway_80/isthmus.credentials", "gateway_80/isthmus.rego")
    return {one.name.rpartition(".")[2]: one.disabled for one in filters if one.name in asking}


def everywhere(found: Given) -> dict[str, Any]:
    (wire,) = found.snapshot.of(ROUTE).values()
    configuration: Any = message(wire)
    return {name: unpack(config) for name, config in configuration.typed_per_filter_config.items()}


def test_what_asks_stands_in_the_chain_where_the_first_route_is_not_the_last() -> None:
    """Envoy leaves out for good what the first route does not switch on."""
    found = given(KEYS, REGO)
    assert disabled(found) == {"credentials": True, "rego": True}
    assert everywhere(found) == {}
    found = given(KEYS, REGO, CLAIMS, ASKED)
    assert disabled(found) == {"credentials": False, "rego": False}
    assert {name: config.disabled for name, config in everywhere(found).items()} == {
        "gateway_80/isthmus.credentials": True,
        "gateway_80/isthmus.rego": True,
    }


def test_each_kind_has_one_entry_and_each_filter_at_routes_one_name() -> None:
    assert len({policy.kind for policy in ROUTE_POLICIES}) <= len(ROUTE_POLICIES)
    told = [filter_.route_config or filter_.config for filter_ in FILTERS if filter_.build_route is not None]
    assert len(told) == len(set(told)), "a configuration at a route means one filter"
