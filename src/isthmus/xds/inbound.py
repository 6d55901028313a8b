"""Before a program: mutual TLS (or what PeerAuthentication allows beside it), then the policies of its port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.model.cluster import Protocol
from isthmus.model.peer_mode import peer_mode
from isthmus.model.policy import MutualTls
from isthmus.model.predicate import Destination as Listening
from isthmus.model.workload import Workload, WorkloadPort
from isthmus.model.world import Address
from isthmus.xds import tls
from isthmus.xds.access_log import build_http_log, build_tcp_log
from isthmus.xds.cluster import build_inbound
from isthmus.xds.context import Context
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.listener import Chain, build_listener, build_tcp_proxy, peer_filters
from isthmus.xds.name import inbound_cluster, inbound_listener
from isthmus.xds.policy import http_policy, output_headers, tcp_filters
from isthmus.xds.route import pass_to
from isthmus.xds.snapshot import Built, build

_HTTP_ALPN = ("h2", "http/1.1")
_HOP = Side.INBOUND.value


def build_workload(context: Context, workload: Workload) -> Iterator[Built]:
    """Listener and cluster of each port of ``workload``. A port without an address yet is left out."""
    for port in context.mesh.inbound_ports(workload):
        address = context.world.address(context.proxy.id, "inbound", port.number)
        app = app_address(context, workload, port)
        if address is None or app is None:
            continue
        protocol = _protocol(context, workload, port)
        mode, decided = peer_mode(
            context.mesh.policies.peer,
            context.mesh.settings.root_namespace,
            workload.namespace,
            workload.labels,
            port.number,
        )
        at = Listening(port.number, workload.address)
        filters, extensions = _filters(context, at, protocol)
        yield from extensions
        chains = _chains(context, at, protocol, mode, filters)
        origins: tuple[Origin, ...] = (workload.origin, *((decided,) if decided else ()))
        listener = build_listener(inbound_listener(port.number), address, chains, inbound=True)
        yield build(inbound_listener(port.number), listener, origins)
        cluster = build_inbound(port.number, app, protocol)
        yield build(cluster.name, cluster, (workload.origin,))


def app_address(context: Context, workload: Workload, port: WorkloadPort) -> Address | None:
    """Where the program itself listens."""
    if port.app_port is not None:
        return Address(workload.address, port.app_port)
    return context.world.address(context.proxy.id, "app", port.number)


def _protocol(context: Context, workload: Workload, port: WorkloadPort) -> Protocol:
    """As the services say that send to this port; HTTP if none does."""
    for service in context.mesh.services_of(workload):
        for service_port in service.ports:
            if context.mesh.workload_port(service_port, workload) == port.number:
                return service_port.protocol
    return Protocol.HTTP


def _chains(
    context: Context, at: Listening, protocol: Protocol, mode: MutualTls, filters: tuple[Any, ...]
) -> tuple[Chain, ...]:
    port = at.port
    plain = Chain(f"plaintext_{port}", filters, transport_protocol="raw_buffer")
    secured = Chain(
        name=f"mutual_tls_{port}",
        filters=(*peer_filters(), *filters),
        transport_socket=tls.mesh_server(
            context.mesh.settings.trust_domain, _HTTP_ALPN if protocol.is_http else ("istio",)
        ),
        transport_protocol="tls",
        alpn=tls.ISTIO_ALPN if mode is MutualTls.PERMISSIVE else (),
    )
    if mode is MutualTls.STRICT:
        return (secured,)
    if mode is MutualTls.DISABLE:
        return (Chain(f"plaintext_{port}", filters),)
    # TLS that is not the mesh's is the program's own: passed through, under the policies that TCP can answer.
    foreign = Chain(f"foreign_tls_{port}", _tcp(context, at), transport_protocol="tls")
    return (secured, plain, foreign)


def _filters(context: Context, at: Listening, protocol: Protocol) -> tuple[tuple[Any, ...], tuple[Built, ...]]:
    if not protocol.is_http:
        return _tcp(context, at), ()
    port = at.port
    policy = http_policy(context, at)
    chain = build_filter_chain(inbound_listener(port), policy.filters, policy.origins)
    http = Http(
        side=Side.INBOUND,
        stat_prefix=f"inbound_{port}",
        routes=_routes(port),
        filters=chain.filters,
        access_log=build_http_log(context.proxy, _HOP, policy.log_fields),
        reserved_headers=output_headers(context),
        longest_connection=context.world.svid_ttl / 4,
    )
    return (build_hcm(http, context.mesh.settings),), chain.extensions


def _tcp(context: Context, at: Listening) -> tuple[Any, ...]:
    port = at.port
    filters, allowing = tcp_filters(context, at, f"inbound_{port}")
    log = build_tcp_log(context.proxy, _HOP, allowing)
    return (*filters, build_tcp_proxy(f"inbound_{port}", inbound_cluster(port), log))


def _routes(port: int) -> Any:
    """One route to the program. Timeouts are the caller's business."""
    route = pass_to("default", inbound_cluster(port))
    return route_v3.RouteConfiguration(
        name=inbound_cluster(port),
        virtual_hosts=[route_v3.VirtualHost(name=f"inbound|http|{port}", domains=["*"], routes=[route])],
        validate_clusters=protobuf.BoolValue(value=False),
    )
