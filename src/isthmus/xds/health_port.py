"""Ports where infrastructure asks whether a gateway takes requests: in plaintext, without a certificate, nothing else.

A probe has no client certificate, and one that is let through the data port without one is a hole in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    core_v3,
    health_check_filter_v3,
    http_connection_manager_v3,
    listener_v3,
    matcher_v3,
    protobuf,
    route_v3,
    router_v3,
)
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from isthmus.xds.context import Context
from isthmus.xds.listener import Chain, build_listener
from isthmus.xds.name import gateway_listener
from isthmus.xds.snapshot import Built, build

_HCM = http_connection_manager_v3.HttpConnectionManager
_IDLE = timedelta(seconds=60)
_REQUEST = timedelta(seconds=5)


def health_checks(mesh: Mesh, proxy: Proxy) -> Mapping[int, tuple[str, ...]]:
    """The paths of a gateway proxy's health ports, by declared port."""
    found: dict[int, dict[str, None]] = defaultdict(dict)
    for gateway in mesh.gateways_of(proxy):
        for server in gateway.servers:
            check = server.client_traffic.health_check
            if check is not None:
                found[check.port][check.path] = None
    return {port: tuple(paths) for port, paths in found.items()}


def build_health_ports(context: Context) -> Iterator[Built]:
    """A listener for each. One without an address yet is left out."""
    for port, paths in sorted(health_checks(context.mesh, context.proxy).items()):
        address = context.world.address(context.proxy.id, "gateway", port)
        if address is not None:
            chain = Chain(f"health_{port}", (_build_hcm(port, paths),))
            listener = build_listener(gateway_listener(port), address, (chain,), inbound=True)
            yield build(gateway_listener(port), listener, (context.proxy.origin,))


def _build_hcm(port: int, paths: tuple[str, ...]) -> Any:
    """Envoy's own answer, which is 503 from the moment that it drains; the filters' end has no route for anything."""
    filters = [_health_check(path) for path in paths]
    filters.append(
        http_connection_manager_v3.HttpFilter(
            name="envoy.filters.http.router", typed_config=any_of(router_v3.Router(suppress_envoy_headers=True))
        )
    )
    built = _HCM(
        codec_type=_HCM.AUTO,
        stat_prefix=f"health_{port}",
        http_filters=filters,
        route_config=route_v3.RouteConfiguration(name=f"health_{port}"),
        server_name="isthmus",
        use_remote_address=protobuf.BoolValue(value=True),
        normalize_path=protobuf.BoolValue(value=True),
        path_with_escaped_slashes_action=_HCM.REJECT_REQUEST,
        common_http_protocol_options=core_v3.HttpProtocolOptions(
            idle_timeout=duration(_IDLE), max_headers_count=protobuf.UInt32Value(value=50)
        ),
        stream_idle_timeout=duration(_REQUEST),
        request_headers_timeout=duration(_REQUEST),
    )
    return listener_v3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(built))


def _health_check(path: str) -> Any:
    config = health_check_filter_v3.HealthCheck(
        pass_through_mode=protobuf.BoolValue(value=False),
        headers=[
            route_v3.HeaderMatcher(name=":path", string_match=matcher_v3.StringMatcher(exact=path)),
            route_v3.HeaderMatcher(
                name=":method",
                string_match=matcher_v3.StringMatcher(safe_regex=matcher_v3.RegexMatcher(regex="GET|HEAD")),
            ),
        ],
    )
    return http_connection_manager_v3.HttpFilter(name="envoy.filters.http.health_check", typed_config=any_of(config))
