"""Where the CONNECTs of one proxy's own program lead, and the listeners within the Envoy that some of them need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isthmus.filters.dynamic_forward_proxy import DynamicForwardProxy
from isthmus.filters.router import Router
from isthmus.model.cluster import Service, ServicePort
from isthmus.model.l4_route import L4Table
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH
from isthmus.xds.access_log import build_unmatched_log
from isthmus.xds.connect import build_inner
from isthmus.xds.context import Context
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.l4 import L4Caller, Way, build_chains, distinct, service_ways, tcp_ways, tls_ways
from isthmus.xds.listener import Chain
from isthmus.xds.name import CONNECT, OUTBOUND_ROUTES, l4_routes
from isthmus.xds.observe import observe_http, observe_tcp
from isthmus.xds.policy import certificate_headers
from isthmus.xds.route_filter import route_filters
from isthmus.xds.snapshot import Built, build

_HOP = Side.OUTBOUND.value
_TLS_PORT = 443


@dataclass(frozen=True, slots=True)
class Named:
    """A host and port that only the ``tcp`` or ``tls`` routes of a VirtualService know."""

    host: str
    port: int
    table: L4Table


def own_calls(context: Context) -> dict[type, Any]:
    """The filters that a program's own requests meet, plain or in a tunnel."""
    filters = {**route_filters(context), Router: Router()}
    if context.passes_through:
        filters[DynamicForwardProxy] = DynamicForwardProxy()
    return filters


def ways_to(context: Context, service: Service, port: ServicePort) -> tuple[Way, ...]:
    proxy = context.proxy
    return service_ways(context.mesh, service, port, proxy.namespace, proxy.labels)


def target(context: Context, service: Service, port: ServicePort) -> str:
    """The cluster for what a CONNECT to ``port`` carries: straight to the service, unless routes have to choose."""
    if port.protocol.is_http:
        return CONNECT
    ways = ways_to(context, service, port)
    if len(ways) > 1 or len(ways[0].destinations) > 1:
        return l4_routes(service.host, port.number)
    return context.cluster_of(ways[0].destinations[0])


def named_by_routes(mesh: Mesh) -> Iterator[Named]:
    """Hosts of no service, on the ports that their matches name; 443 for ``tls`` routes that name none."""
    known: set[tuple[str, int]] = set()
    for table in mesh.l4_routes:
        if MESH not in table.gateways:
            continue
        ports = {match.port for route in (*table.tcp, *table.tls) for match in route.matches if match.port is not None}
        if any(match.port is None for route in table.tls for match in route.matches):
            ports.add(_TLS_PORT)
        for host in table.hosts:
            for port in sorted(ports):
                if host not in mesh.services and (host, port) not in known:
                    known.add((host, port))
                    yield Named(host, port, table)


def build_tunnels(context: Context) -> Iterator[Built]:
    """The listener for requests within tunnels, and one for each port whose connections have routes."""
    yield from _requests(context)
    for name, chosen_from in context.recall(_chosen_by_routes):
        yield from _connections(context, name, chosen_from)
    for named in named_by_routes(context.mesh):
        caller = L4Caller(MESH, context.proxy.namespace, context.proxy.labels, named.port)
        ways = distinct((*tls_ways((named.table,), caller), *tcp_ways((named.table,), caller)))
        yield from _connections(context, l4_routes(named.host, named.port), tuple(ways))


def _chosen_by_routes(context: Context) -> tuple[tuple[str, tuple[Way, ...]], ...]:
    """The ports of services whose connections have routes to choose by."""
    found = []
    for service in context.mesh.services.values():
        for port in service.ports:
            name = l4_routes(service.host, port.number)
            if target(context, service, port) == name:
                found.append((name, ways_to(context, service, port)))
    return tuple(found)


def _requests(context: Context) -> Iterator[Built]:
    filters = build_filter_chain(CONNECT, own_calls(context), (context.proxy.origin,))
    yield from filters.extensions
    http = Http(
        side=Side.OUTBOUND,
        stat_prefix=CONNECT,
        routes=OUTBOUND_ROUTES,
        filters=filters.filters,
        observed=observe_http(context, _HOP),
        reserved_headers=certificate_headers(context),
    )
    # TLS to a port that is declared HTTP has no chain: it is closed, and the log says so.
    chain = Chain(CONNECT, (build_hcm(http, context.mesh.settings),), transport_protocol="raw_buffer")
    yield from _built(context, CONNECT, [chain])


def _connections(context: Context, name: str, ways: tuple[Way, ...]) -> Iterator[Built]:
    log = observe_tcp(context, _HOP)
    chains = build_chains(ways, context.cluster_of, name, log, traffic_of=context.traffic_of)
    if chains:
        yield from _built(context, name, chains)


def _built(context: Context, name: str, chains: list[Chain]) -> Iterator[Built]:
    listener, cluster = build_inner(name, chains, build_unmatched_log(context.proxy, _HOP))
    origins = (context.proxy.origin,)
    yield build(name, listener, origins)
    yield build(name, cluster, origins)
