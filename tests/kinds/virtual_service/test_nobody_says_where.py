from __future__ import annotations

import pytest
from traffic_manifest import EDGE, compiled, networking

ENTRY = networking(
    "ServiceEntry",
    "hosts: [api.example.com]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: NONE",
    "api",
)
TO_API = "[{route: [{destination: {host: api.example.com}}]}]"


@pytest.mark.parametrize(
    ("gateways", "sort", "told"),
    [("[edge]", "http", True), ("[mesh, edge]", "http", True), ("[mesh]", "http", False), ("[mesh]", "tcp", False)],
)
def test_a_gateway_route_to_resolution_none(gateways: str, sort: str, told: bool) -> None:
    """ISM2164: only a program's own call says where it goes."""
    spec = f"hosts: [shop.example.com]\ngateways: {gateways}\n{sort}: {TO_API}"
    done = compiled(networking("VirtualService", spec), ENTRY, EDGE)
    assert done.found == (["7:10 error ISM2164"] if told else [])


def test_connections_of_a_gateway_too() -> None:
    edge = EDGE.replace("protocol: HTTP", "protocol: TCP")
    spec = f"hosts: [shop.example.com]\ngateways: [edge]\ntcp: {TO_API}"
    done = compiled(networking("VirtualService", spec), ENTRY, edge)
    assert done.found == ["7:9 error ISM2164"]


def test_a_service_that_says_where_is_good() -> None:
    spec = f"hosts: [shop.example.com]\ngateways: [edge]\nhttp: {TO_API}"
    dns = ENTRY.replace("resolution: NONE", "resolution: DNS")
    assert compiled(networking("VirtualService", spec), dns, EDGE).found == []


def test_an_upstream_to_resolution_none() -> None:
    local = networking("LocalWorkload", "upstreams: [{host: api.example.com, port: 80}]", "web")
    done = compiled(local.replace("networking.istio.io/v1", "isthmus.dev/v1alpha1"), ENTRY)
    assert done.found == ["5:22 error ISM2164"]
