from __future__ import annotations

from typing import Any

from isthmus.control.desired import listening_places
from isthmus.envoy_api import unpack
from isthmus.model.world import PortKey
from isthmus.xds.snapshot import LISTENER

from .making import compiled, gateway, given, hcm_of, networking

EDGE = "gateway~shop~edge"


def policy(name: str, target: str, path: str) -> str:
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\n"
        f"metadata: {{name: {name}, namespace: shop}}\nspec:\n  targetRefs: [{{kind: Gateway, name: {target}}}]\n"
        f"  healthCheck: {{port: 15021, path: {path}}}\n"
    )


SECOND = networking(
    "Gateway",
    "second",
    "{selector: {app: edge}, servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}]}",
)


def test_a_listener_of_its_own_that_routes_nothing() -> None:
    mesh = compiled(gateway(), SECOND, policy("one", "edge", "/healthz"), policy("two", "second", "/ready")).mesh
    found = given(mesh, EDGE)
    assert found.names(LISTENER) == ["gateway_80", "gateway_81", "gateway_15021"]
    (chain,) = found.listener("gateway_15021").filter_chains
    hcm = hcm_of(chain)
    assert [one.name.rpartition(".")[2] for one in hcm.http_filters] == ["health_check", "health_check", "router"]
    paths = [unpack(one.typed_config) for one in hcm.http_filters[:2]]
    assert [_path(one) for one in paths] == ["/healthz", "/ready"]
    assert not any(one.pass_through_mode.value for one in paths)  # type: ignore[attr-defined]
    assert len(hcm.route_config.virtual_hosts) == 0
    assert not chain.HasField("transport_socket")


def _path(config: Any) -> str:
    return str(next(one.string_match.exact for one in config.headers if one.name == ":path"))


def test_it_is_a_place_of_the_gateways() -> None:
    mesh = compiled(gateway(), policy("one", "edge", "/healthz")).mesh
    assert listening_places(mesh)[PortKey(EDGE, "gateway", 15021)] == "127.0.0.1"
    assert PortKey(EDGE, "gateway", 15021) not in listening_places(compiled(gateway()).mesh)
