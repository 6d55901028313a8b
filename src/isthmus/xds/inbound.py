"""Before a program: mutual TLS (or what PeerAuthentication allows beside it), then the policies of its port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.filters.allow_policies import AllowPolicies
from isthmus.model.cluster import Protocol, Service, ServicePort
from isthmus.model.policy import MutualTls
from isthmus.model.predicate import Destination as Listening
from isthmus.model.workload import Workload, WorkloadPort
from isthmus.model.world import Address
from isthmus.xds import tls
from isthmus.xds.access import challenge
from isthmus.xds.closed_tcp import closed_by_policy
from isthmus.xds.cluster import build_inbound
from isthmus.xds.context import Context
from isthmus.xds.extension import FilterChain, build_filter_chain
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.listener import Chain, build_listener, build_tcp_proxy, peer_filters
from isthmus.xds.local_reply import build_local_replies
from isthmus.xds.metadata import service_metadata
from isthmus.xds.name import inbound_cluster, inbound_listener
from isthmus.xds.observe import observe_http, observe_tcp
from isthmus.xds.plain_route import pass_to
from isthmus.xds.policy import HttpPolicy, certificate_headers, http_policy, output_headers, tcp_filters
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
        mode, decided = context.mesh.peer_mode(workload, port.number)
        at = Listening(port.number, workload.address, callers=workload.address if address.is_unix else None)
        chains = _chains(context, at, protocol, mode)
        origins: tuple[Origin, ...] = (workload.origin, *((decided,) if decided else ()))
        listener = build_listener(inbound_listener(port.number), address, chains, inbound=True)
        yield build(inbound_listener(port.number), listener, origins)
        cluster = build_inbound(port.number, app, protocol)
        means = _service(context, workload, port)
        if means is not None:
            cluster.metadata.CopyFrom(service_metadata(*means))
        yield build(cluster.name, cluster, (workload.origin,))


def build_discovered(context: Context, workload: Workload) -> Iterator[Built]:
    """The filters of those listeners that are discovered apart from them: what policies change, and nothing else."""
    for port in context.mesh.inbound_ports(workload):
        address = context.world.address(context.proxy.id, "inbound", port.number)
        if address is None or not _protocol(context, workload, port).is_http:
            continue
        at = Listening(port.number, workload.address, callers=workload.address if address.is_unix else None)
        for built in _policed(context, at)[1].extensions:
            yield replace(built, origins=(*built.origins, workload.origin))


def _policed(context: Context, at: Listening) -> tuple[HttpPolicy, FilterChain]:
    """The same for all workloads of the same policies."""
    return context.recall(_build_policed, at.port, at.address, at.callers)


def _build_policed(
    context: Context, port: int, address: str | None, callers: str | None
) -> tuple[HttpPolicy, FilterChain]:
    policy = http_policy(context, Listening(port, address, callers))
    return policy, build_filter_chain(inbound_listener(port), policy.filters, policy.origins)


def _listed(
    context: Context, port: int, address: str | None, callers: str | None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What a listener itself says of its policies: seldom anything new when they change."""
    policy, chain = _policed(context, Listening(port, address, callers))
    return chain.filters, tuple(policy.log_fields.items())


def app_address(context: Context, workload: Workload, port: WorkloadPort) -> Address | None:
    """Where the program itself listens."""
    if port.app_port is not None:
        return Address(workload.address, port.app_port)
    return context.world.address(context.proxy.id, "app", port.number)


def _protocol(context: Context, workload: Workload, port: WorkloadPort) -> Protocol:
    """As the services say that send to this port; HTTP if none does."""
    means = _service(context, workload, port)
    return means[1].protocol if means is not None else Protocol.HTTP


def _service(context: Context, workload: Workload, port: WorkloadPort) -> tuple[Service, ServicePort] | None:
    """The first service that sends to this port."""
    for service in context.mesh.services_of(workload):
        for service_port in service.ports:
            if context.mesh.workload_port(service_port, workload) == port.number:
                return service, service_port
    return None


def _chains(context: Context, at: Listening, protocol: Protocol, mode: MutualTls) -> tuple[Chain, ...]:
    port, filters = at.port, _filters(context, at, protocol)
    # Who is unknown is not the gateway, and says nothing of a client's certificate.
    told = certificate_headers(context) if mode is not MutualTls.STRICT else ()
    unknown = _filters(context, at, protocol, told) if told and protocol.is_http else filters
    # A connection must not outlive the certificate that it was opened with by long.
    bounded = filters if protocol.is_http else _tcp(context, at, context.world.svid_ttl / 4)
    plain = Chain(f"plaintext_{port}", unknown, transport_protocol="raw_buffer")
    secured = Chain(
        name=f"mutual_tls_{port}",
        filters=(*peer_filters(context.world.revoked_certificates), *bounded),
        transport_socket=tls.mesh_server(context.mesh.trust_domains, _HTTP_ALPN if protocol.is_http else ("istio",)),
        transport_protocol="tls",
        alpn=tls.ISTIO_ALPN if mode is MutualTls.PERMISSIVE else (),
    )
    if mode is MutualTls.STRICT:
        return (secured,)
    if mode is MutualTls.DISABLE:
        return (Chain(f"plaintext_{port}", unknown),)
    # TLS that is not the mesh's is the program's own: passed through, under the policies that TCP can answer.
    foreign = Chain(f"foreign_tls_{port}", _tcp(context, at), transport_protocol="tls")
    return (secured, plain, foreign)


def _filters(context: Context, at: Listening, protocol: Protocol, reserved: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """``reserved``: headers that callers do not set here, beside those of verified tokens."""
    if not protocol.is_http:
        return _tcp(context, at)
    port = at.port
    filters, log_fields = context.recall(_listed, port, at.address, at.callers)
    http = Http(
        side=Side.INBOUND,
        stat_prefix=f"inbound_{port}",
        routes=_routes(port),
        filters=filters,
        observed=observe_http(context, _HOP, dict(log_fields)),
        reserved_headers=(*output_headers(context), *reserved),
        local_replies=build_local_replies(challenge(context), None),
        longest_connection=context.world.svid_ttl / 4,
    )
    return (build_hcm(http, context.mesh.settings),)


def _tcp(context: Context, at: Listening, longest: timedelta | None = None) -> tuple[Any, ...]:
    port = at.port
    filters, allowing = context.recall(_tcp_policed, port, at.address, at.callers)
    log = observe_tcp(context, _HOP, allowing)
    proxy = build_tcp_proxy(f"inbound_{port}", ((inbound_cluster(port), 1),), log, longest_connection=longest)
    return (*filters, proxy)


def _tcp_policed(
    context: Context, port: int, address: str | None, callers: str | None
) -> tuple[tuple[Any, ...], AllowPolicies]:
    at = Listening(port, address, callers)
    return tcp_filters(context, at, f"inbound_{port}", closed=closed_by_policy(context))


def _routes(port: int) -> Any:
    """One route to the program. Timeouts are the caller's business."""
    route = pass_to("default", inbound_cluster(port))
    return route_v3.RouteConfiguration(
        name=inbound_cluster(port),
        virtual_hosts=[route_v3.VirtualHost(name=f"inbound|http|{port}", domains=["*"], routes=[route])],
        validate_clusters=protobuf.BoolValue(value=False),
    )
