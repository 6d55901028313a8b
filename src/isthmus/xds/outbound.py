"""What a program calls through: an explicit HTTP proxy for it alone, and a local address per declared upstream."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.filters.proxy_authorization import ProxyAuthorization, local_reply_mapper
from isthmus.filters.router import Router
from isthmus.model.cluster import Service, ServicePort
from isthmus.model.match import Regex
from isthmus.model.route import MESH, Destination, RouteTable
from isthmus.model.settings import OutboundPolicy
from isthmus.model.workload import Workload
from isthmus.model.world import Address
from isthmus.xds.access_log import build_unmatched_log
from isthmus.xds.connect import connect_to, refuse_connect
from isthmus.xds.context import Context
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.l4 import build_chains
from isthmus.xds.listener import Chain, build_listener
from isthmus.xds.match import header_matcher
from isthmus.xds.name import CONNECT, OUTBOUND_ROUTES, PASSTHROUGH, l4_routes, upstream_listener
from isthmus.xds.observe import observe_http, observe_tcp
from isthmus.xds.plain_route import pass_to, refuse
from isthmus.xds.policy import certificate_headers
from isthmus.xds.route import MAX_DIRECT_RESPONSE_BYTES, Caller, build_routes, default_route
from isthmus.xds.route_filter import route_filters
from isthmus.xds.route_tree import virtual_host
from isthmus.xds.snapshot import Built, build, build_joined, repeated
from isthmus.xds.tunnel import build_tunnels, named_by_routes, own_calls, target, ways_to

_HOP = Side.OUTBOUND.value
_HTTP_PORT = 80
_NOT_REGISTERED = "not in the registry (outboundTrafficPolicy: REGISTRY_ONLY)\n"


def build_outbound_proxy(context: Context, workload: Workload) -> Iterator[Built]:
    """The explicit proxy but for its routes. Without a credential there is none: it would lend the identity to anybody.

    Its routes are :func:`build_proxy_routes`: they change without it, and are the same for many.
    """
    address = context.world.address(context.proxy.id, "outbound", 0)
    credential = context.world.outbound_credentials.get(context.proxy.id)
    if address is None or credential is None:
        return
    configs = {ProxyAuthorization: ProxyAuthorization(basic_authorization(credential)), **own_calls(context)}
    filters = build_filter_chain(OUTBOUND_ROUTES, configs, (workload.origin,))
    yield from filters.extensions
    http = Http(
        side=Side.OUTBOUND,
        stat_prefix=OUTBOUND_ROUTES,
        routes=OUTBOUND_ROUTES,
        filters=filters.filters,
        observed=observe_http(context, _HOP),
        reserved_headers=certificate_headers(context),
        local_replies=local_reply_mapper(),
        tunnels=True,
    )
    chain = Chain(OUTBOUND_ROUTES, (build_hcm(http, context.mesh.settings),))
    yield build(OUTBOUND_ROUTES, build_listener(OUTBOUND_ROUTES, address, (chain,), inbound=False), (workload.origin,))
    yield from build_tunnels(context)


def basic_authorization(credential: str) -> str:
    """What a client sends to ``http://w:<credential>@...`` (RFC 7617)."""
    return "Basic " + base64.b64encode(f"w:{credential}".encode()).decode()


_Domains = tuple[str, ...]
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class _Block:
    """Some services' ports with their names. Made together: to see that a block is as it was is cheaper than each."""

    named: tuple[tuple[Service, ServicePort, _Domains], ...]


@dataclass(frozen=True, slots=True)
class _Hosts:
    """Virtual hosts, serialised, and what they were made of."""

    wire: bytes
    origins: tuple[Origin, ...]


def _hosts(built: Iterable[tuple[Any, Iterable[Origin]]]) -> _Hosts:
    each = tuple(built)
    wire = repeated(route_v3.RouteConfiguration, "virtual_hosts", (host for host, _ in each))
    return _Hosts(wire, tuple(dict.fromkeys(origin for _, origins in each for origin in origins)))


def build_proxy_routes(context: Context) -> Built:
    """One virtual host per service port and name; what no service is, as the outbound policy says.

    Each begins with the way for a CONNECT, which no other match takes.
    """
    blocks = context.recall(_blocks)
    hosts = [context.recall(_block_hosts, block) for block in blocks]
    taken = {domain for block in blocks for _, _, domains in block.named for domain in domains}
    hosts.append(_hosts((*_named_by_connection_routes(context, taken), *_virtual_service_hosts(context, taken))))
    outside = route_v3.VirtualHost(
        name=_outside_name(context), domains=["*"], routes=[*_excluded(context), *_outside(context)]
    )
    hosts.append(_hosts([(outside, ())]))
    origins = (origin for some in hosts for origin in some.origins)
    wires = (some.wire for some in hosts)
    return build_joined(OUTBOUND_ROUTES, _configuration(OUTBOUND_ROUTES, []), wires, origins)


def _blocks(context: Context) -> tuple[_Block, ...]:
    """The names of every service's ports that no service before it has."""
    taken: set[str] = set()
    found = []
    for service in context.mesh.services.values():
        for port in service.ports:
            domains = tuple(name for name in _domains(context, service, port) if name not in taken)
            if domains:
                taken.update(domains)
                found.append((service, port, domains))
    return tuple(_Block(tuple(found[at : at + _BLOCK])) for at in range(0, len(found), _BLOCK))


def _block_hosts(context: Context, block: _Block) -> _Hosts:
    return _hosts(_port_host(context, *each) for each in block.named)


def _port_host(
    context: Context, service: Service, port: ServicePort, domains: _Domains
) -> tuple[Any, tuple[Origin, ...]]:
    routes, origins = _port_routes(context, service, port)
    routes = [connect_to(target(context, service, port)), *routes]
    return virtual_host(f"{service.host}:{port.number}", domains, routes), origins


def _configuration(name: str, hosts: list[Any]) -> Any:
    return route_v3.RouteConfiguration(
        name=name,
        virtual_hosts=hosts,
        validate_clusters=protobuf.BoolValue(value=False),
        max_direct_response_body_size_bytes=protobuf.UInt32Value(value=MAX_DIRECT_RESPONSE_BYTES),
        request_headers_to_remove=["proxy-authorization", "proxy-connection"],
    )


def _domains(context: Context, service: Service, port: ServicePort) -> list[str]:
    names = [service.host, *service.aliases, *map(_in_authority, service.addresses)]
    # A host of a ServiceEntry has no aliases: of "cart.example.com", "cart" is no name.
    if service.namespace == context.proxy.namespace and service.aliases:
        names.append(service.host.partition(".")[0])
    with_port = [f"{name}:{port.number}" for name in names]
    return [*with_port, *names] if port.number == 80 else with_port


def _in_authority(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _caller(context: Context, port: int) -> Caller:
    return Caller(
        MESH,
        context.proxy.namespace,
        context.proxy.labels,
        port,
        port,
        context.cluster_of,
        traffic_of=context.traffic_of,
    )


def _port_routes(context: Context, service: Service, port: ServicePort) -> tuple[list[Any], tuple[Origin, ...]]:
    """The routes of an HTTP port; a request to any other port is no request to it, but to whatever has the name."""
    if port.protocol.is_http:
        return _service_routes(context, service, port)
    return _outside(context)[1:], (service.origin,)


def _service_routes(context: Context, service: Service, port: ServicePort) -> tuple[list[Any], tuple[Origin, ...]]:
    """The routes of the VirtualService for this host, or everything to the service."""
    table = context.mesh.mesh_table(service.host)
    if table is not None:
        return build_routes([(table, _caller(context, port.number))]), (service.origin, table.origin)
    destination = Destination(service.host, port.number)
    return [default_route("default", destination, _caller(context, port.number))], (service.origin,)


def _virtual_service_hosts(context: Context, taken: set[str]) -> Iterator[tuple[Any, tuple[Origin, ...]]]:
    """Hosts that only a VirtualService knows: any port, for no service says which."""
    by_host: dict[str, RouteTable] = {}
    services = context.mesh.services.keys()
    for table in context.mesh.mesh_routes:
        for host in table.hosts:
            if host not in services and host not in taken:
                by_host.setdefault(host, table)
    for host, table in by_host.items():
        routes = build_routes([(table, _caller(context, 80))])
        if routes and host != "*":
            domains = [host] if host.startswith("*") else [host, f"{host}:*"]
            yield virtual_host(host, domains, [connect_to(CONNECT), *routes]), (table.origin,)


def _named_by_connection_routes(context: Context, taken: set[str]) -> Iterator[tuple[Any, tuple[Origin, ...]]]:
    """Hosts that only the routes of connections know."""
    for named in named_by_routes(context.mesh):
        domain = f"{named.host}:{named.port}"
        if domain not in taken and named.host != "*":
            taken.add(domain)
            routes = [connect_to(l4_routes(named.host, named.port)), *_outside(context)[1:]]
            host = route_v3.VirtualHost(name=domain, domains=[domain], routes=routes)
            yield host, (named.table.origin,)


def _outside_name(context: Context) -> str:
    return "allow_any" if context.mesh.settings.outbound_policy is OutboundPolicy.ALLOW_ANY else "block_all"


def _excluded(context: Context) -> list[Any]:
    """Ports at which the workload may call anybody (``traffic.sidecar.istio.io/excludeOutboundPorts``)."""
    routes = []
    for port in context.aspect(_direct_ports):
        # A request to port 80 need not name it; a CONNECT always does.
        authority = header_matcher(":authority", Regex(f".*:{port}" if port != _HTTP_PORT else r"[^:]+|\[.*\]|.*:80"))
        for route in (connect_to(PASSTHROUGH), pass_to("excluded_port", PASSTHROUGH)):
            route.name = "excluded_port"
            route.match.headers.append(authority)
            routes.append(route)
    return routes


def _direct_ports(context: Context) -> tuple[int, ...]:
    workload = context.mesh.workload_of(context.proxy)
    return workload.direct_ports if workload is not None else ()


def _outside(context: Context) -> list[Any]:
    """What no service is: a tunnel first, then requests."""
    if context.mesh.settings.outbound_policy is OutboundPolicy.ALLOW_ANY:
        return [connect_to(PASSTHROUGH), pass_to("allow_any", PASSTHROUGH)]
    return [refuse_connect(502, _NOT_REGISTERED), refuse("block_all", 502, _NOT_REGISTERED)]


def build_upstreams(context: Context, workload: Workload) -> Iterator[Built]:
    """A listener per declared upstream, for programs that know no proxy."""
    for index, upstream in enumerate(workload.upstreams):
        address = context.world.address(context.proxy.id, "upstream", index)
        service = context.mesh.services.get(upstream.host)
        port = service.port(upstream.port) if service is not None else None
        if address is None or service is None or port is None:
            continue
        name = upstream_listener(index, upstream.host, upstream.port)
        if port.protocol.is_http:
            yield from _http_upstream(context, name, address, service, port, upstream.origin)
        else:
            log = observe_tcp(context, _HOP)
            chains = build_chains(
                ways_to(context, service, port), context.cluster_of, name, log, traffic_of=context.traffic_of
            )
            unmatched = build_unmatched_log(context.proxy, _HOP)
            listener = build_listener(name, address, chains, inbound=False, unmatched_log=unmatched)
            yield build(name, listener, (upstream.origin,))


def _http_upstream(
    context: Context, name: str, address: Address, service: Service, port: ServicePort, origin: Origin
) -> Iterator[Built]:
    chain, resources = build_service_http(context, name, service, port, origin)
    yield from resources
    yield build(name, build_listener(name, address, (chain,), inbound=False), (origin,))


def build_service_http(
    context: Context, name: str, service: Service, port: ServicePort, origin: Origin
) -> tuple[Chain, tuple[Built, ...]]:
    """The chain of connections whose requests are all for one port of ``service``, with what it refers to."""
    filters = build_filter_chain(name, {**route_filters(context), Router: Router()}, (origin,))
    http = Http(
        side=Side.OUTBOUND,
        stat_prefix=name,
        routes=name,
        filters=filters.filters,
        observed=observe_http(context, _HOP),
        reserved_headers=certificate_headers(context),
    )
    routes, origins = _service_routes(context, service, port)
    host = virtual_host(f"{service.host}:{port.number}", ["*"], routes)
    configuration = build(name, _configuration(name, [host]), (origin, *origins))
    return Chain(name, (build_hcm(http, context.mesh.settings),)), (*filters.extensions, configuration)
