"""What a program calls through: an explicit HTTP proxy for it alone, and a local address per declared upstream."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.filters.dynamic_forward_proxy import DynamicForwardProxy
from isthmus.filters.fault import Fault
from isthmus.filters.proxy_authorization import ProxyAuthorization, local_reply_mapper
from isthmus.filters.router import Router
from isthmus.model.cluster import Service, ServicePort
from isthmus.model.host import most_specific
from isthmus.model.route import MESH, Destination, RouteTable
from isthmus.model.settings import OutboundPolicy
from isthmus.model.workload import Workload
from isthmus.model.world import Address
from isthmus.xds.access_log import build_http_log, build_tcp_log
from isthmus.xds.context import Context
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.listener import Chain, build_listener, build_tcp_proxy
from isthmus.xds.name import OUTBOUND_ROUTES, PASSTHROUGH, outbound_cluster, upstream_listener
from isthmus.xds.route import Caller, build_routes, default_route, pass_to, refuse
from isthmus.xds.snapshot import Built, build

_HOP = Side.OUTBOUND.value


def build_outbound_proxy(context: Context, workload: Workload) -> Iterator[Built]:
    """The explicit proxy. Without a credential there is none: it would lend the identity to anybody."""
    address = context.world.address(context.proxy.id, "outbound", 0)
    credential = context.world.outbound_credentials.get(context.proxy.id)
    if address is None or credential is None:
        return
    filters: dict[type, Any] = {
        ProxyAuthorization: ProxyAuthorization(basic_authorization(credential)),
        Fault: Fault(),
        Router: Router(),
    }
    if context.passes_through:
        filters[DynamicForwardProxy] = DynamicForwardProxy()
    http = Http(
        side=Side.OUTBOUND,
        stat_prefix=OUTBOUND_ROUTES,
        routes=OUTBOUND_ROUTES,
        filters=build_filter_chain(OUTBOUND_ROUTES, filters).filters,
        access_log=build_http_log(context.proxy, _HOP),
        local_replies=local_reply_mapper(),
    )
    chain = Chain(OUTBOUND_ROUTES, (build_hcm(http, context.mesh.settings),))
    yield build(OUTBOUND_ROUTES, build_listener(OUTBOUND_ROUTES, address, (chain,), inbound=False), (workload.origin,))
    yield _proxy_routes(context)


def basic_authorization(credential: str) -> str:
    """What a client sends to ``http://w:<credential>@...`` (RFC 7617)."""
    return "Basic " + base64.b64encode(f"w:{credential}".encode()).decode()


def _proxy_routes(context: Context) -> Built:
    """One virtual host per service port and name; what no service is, as the outbound policy says."""
    hosts: list[Any] = []
    taken: set[str] = set()
    origins: dict[Origin, None] = {}
    for service in context.mesh.services.values():
        for port in service.ports:
            if not port.protocol.is_http:
                continue
            domains = [name for name in _domains(context, service, port) if name not in taken]
            if domains:
                taken.update(domains)
                routes, from_ = _service_routes(context, service, port)
                origins.update(dict.fromkeys(from_))
                name = f"{service.host}:{port.number}"
                hosts.append(route_v3.VirtualHost(name=name, domains=domains, routes=routes))
    hosts.extend(_virtual_service_hosts(context, taken, origins))
    hosts.append(_anything_else(context))
    return build(OUTBOUND_ROUTES, _configuration(OUTBOUND_ROUTES, hosts), tuple(origins))


def _configuration(name: str, hosts: list[Any]) -> Any:
    return route_v3.RouteConfiguration(
        name=name,
        virtual_hosts=hosts,
        validate_clusters=protobuf.BoolValue(value=False),
        request_headers_to_remove=["proxy-authorization", "proxy-connection"],
    )


def _domains(context: Context, service: Service, port: ServicePort) -> list[str]:
    names = [service.host, *service.aliases]
    # A host of a ServiceEntry has no aliases: of "cart.example.com", "cart" is no name.
    if service.namespace == context.proxy.namespace and service.aliases:
        names.append(service.host.partition(".")[0])
    with_port = [f"{name}:{port.number}" for name in names]
    return [*with_port, *names] if port.number == 80 else with_port


def _caller(context: Context, port: int) -> Caller:
    return Caller(MESH, context.proxy.namespace, context.proxy.labels, port, port, context.cluster_of)


def _service_routes(context: Context, service: Service, port: ServicePort) -> tuple[list[Any], tuple[Origin, ...]]:
    """The routes of the VirtualService for this host, or everything to the service."""
    table = most_specific(service.host, context.mesh.mesh_routes)
    if table is not None:
        return build_routes([(table, _caller(context, port.number))]), (service.origin, table.origin)
    destination = Destination(service.host, port.number)
    return [default_route("default", destination, _caller(context, port.number))], (service.origin,)


def _virtual_service_hosts(context: Context, taken: set[str], origins: dict[Origin, None]) -> Iterator[Any]:
    """Hosts that only a VirtualService knows: any port, for no service says which."""
    by_host: dict[str, RouteTable] = {}
    for table in context.mesh.mesh_routes:
        for host in table.hosts:
            if host not in context.mesh.services and host not in taken:
                by_host.setdefault(host, table)
    for host, table in by_host.items():
        routes = build_routes([(table, _caller(context, 80))])
        if routes and host != "*":
            origins.setdefault(table.origin)
            domains = [host] if host.startswith("*") else [host, f"{host}:*"]
            yield route_v3.VirtualHost(name=host, domains=domains, routes=routes)


def _anything_else(context: Context) -> Any:
    if context.mesh.settings.outbound_policy is OutboundPolicy.ALLOW_ANY:
        return route_v3.VirtualHost(name="allow_any", domains=["*"], routes=[pass_to("allow_any", PASSTHROUGH)])
    refusal = refuse("block_all", 502, "not in the registry (outboundTrafficPolicy: REGISTRY_ONLY)\n")
    return route_v3.VirtualHost(name="block_all", domains=["*"], routes=[refusal])


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
            log = build_tcp_log(context.proxy, _HOP, ())
            proxy = build_tcp_proxy(name, outbound_cluster(service.host, port.number), log)
            yield build(
                name, build_listener(name, address, (Chain(name, (proxy,)),), inbound=False), (upstream.origin,)
            )


def _http_upstream(
    context: Context, name: str, address: Address, service: Service, port: ServicePort, origin: Origin
) -> Iterator[Built]:
    http = Http(
        side=Side.OUTBOUND,
        stat_prefix=name,
        routes=name,
        filters=build_filter_chain(name, {Fault: Fault(), Router: Router()}).filters,
        access_log=build_http_log(context.proxy, _HOP),
    )
    chain = Chain(name, (build_hcm(http, context.mesh.settings),))
    yield build(name, build_listener(name, address, (chain,), inbound=False), (origin,))
    routes, origins = _service_routes(context, service, port)
    host = route_v3.VirtualHost(name=f"{service.host}:{port.number}", domains=["*"], routes=routes)
    yield build(name, _configuration(name, [host]), (origin, *origins))
