"""What a program's connections meet that are redirected to its sidecar: no proxy to know, no address to configure.

Its names are answered by this Envoy with the addresses of :mod:`isthmus.xds.virtual_address`, and the connections to
those are sent on as the same calls by the explicit proxy are. Everything else is closed, and the log says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    core_v3,
    dns_filter_v3,
    dns_table_v3,
    listener_v3,
    original_dst_v3,
)
from isthmus.model.cluster import Service, ServicePort
from isthmus.model.workload import Workload
from isthmus.model.world import Address
from isthmus.xds.access_log import build_unmatched_log
from isthmus.xds.context import Context
from isthmus.xds.hcm import Side
from isthmus.xds.l4 import build_chains
from isthmus.xds.listener import Chain, build_listener
from isthmus.xds.name import CAPTURE, CAPTURE_DNS, capture_routes
from isthmus.xds.observe import observe_tcp
from isthmus.xds.outbound import build_service_http
from isthmus.xds.snapshot import Built, build
from isthmus.xds.tunnel import ways_to
from isthmus.xds.virtual_address import virtual_addresses

_HOP = Side.OUTBOUND.value
_ANSWER_TTL = timedelta(seconds=30)
"""As Istio's DNS proxy answers. The addresses do not change; which names there are does."""


def build_capture(context: Context, workload: Workload) -> Iterator[Built]:
    """The listener of redirected connections, its routes, and the one that answers names; nothing where none is."""
    connections = context.world.address(context.proxy.id, "capture", 0)
    names = context.world.address(context.proxy.id, "dns", 0)
    if connections is None or names is None:
        return
    addresses = virtual_addresses(context.mesh.services.values())
    chains: list[Chain] = []
    # Of two services that declare one address and port, the first has it: Envoy takes no listener with both.
    taken: set[tuple[IPv4Address, int]] = set()
    for service in context.mesh.services.values():
        for port in service.ports:
            free = [one for one in addresses[service.host] if (one, port.number) not in taken]
            if free:
                taken.update((one, port.number) for one in free)
                own, resources = _port_chains(context, service, port)
                yield from resources
                subnets = tuple(f"{one}/32" for one in free)
                chains += [replace(chain, subnets=subnets, port=port.number) for chain in own]
    origins = (workload.origin,)
    unmatched = build_unmatched_log(context.proxy, _HOP)
    listener = build_listener(CAPTURE, connections, chains, inbound=False, unmatched_log=unmatched)
    # Which address was called is what the kernel remembers of the redirected connection.
    listener.listener_filters.insert(0, _original_destination())
    yield build(CAPTURE, listener, origins)
    yield build(CAPTURE_DNS, _build_dns(context, names, addresses), origins)


def _port_chains(context: Context, service: Service, port: ServicePort) -> tuple[list[Chain], tuple[Built, ...]]:
    name = capture_routes(service.host, port.number)
    if port.protocol.is_http:
        chain, resources = build_service_http(context, name, service, port, service.origin)
        # TLS to a port that is declared HTTP has no chain: it is closed.
        return [replace(chain, transport_protocol="raw_buffer")], resources
    log = observe_tcp(context, _HOP)
    ways = ways_to(context, service, port)
    return build_chains(ways, context.cluster_of, name, log, traffic_of=context.traffic_of), ()


def _original_destination() -> Any:
    return listener_v3.ListenerFilter(
        name="envoy.filters.listener.original_dst", typed_config=any_of(original_dst_v3.OriginalDst())
    )


def _build_dns(context: Context, address: Address, addresses: Mapping[str, tuple[IPv4Address, ...]]) -> Any:
    """Each name of a service has the first of its addresses. Others do not exist: nobody outside is asked."""
    table = dns_table_v3.DnsTable()
    taken: set[str] = set()
    for service in context.mesh.services.values():
        own = addresses[service.host]
        if not own or "*" in service.host:
            continue
        for name in _names(context, service):
            if name not in taken:
                taken.add(name)
                domain = table.virtual_domains.add(name=name, answer_ttl=duration(_ANSWER_TTL))
                domain.endpoint.address_list.address.append(str(own[0]))
    config = dns_filter_v3.DnsFilterConfig(stat_prefix=CAPTURE_DNS)
    config.server_config.inline_dns_table.CopyFrom(table)
    return listener_v3.Listener(
        name=CAPTURE_DNS,
        address=core_v3.Address(
            socket_address=core_v3.SocketAddress(
                protocol=core_v3.SocketAddress.UDP, address=address.host, port_value=address.port
            )
        ),
        listener_filters=[listener_v3.ListenerFilter(name="envoy.filters.udp.dns_filter", typed_config=any_of(config))],
        traffic_direction=core_v3.TrafficDirection.Value("OUTBOUND"),
    )


def _names(context: Context, service: Service) -> tuple[str, ...]:
    # A host of a ServiceEntry has no aliases: of "cart.example.com", "cart" is no name.
    short = service.namespace == context.proxy.namespace and service.aliases
    return (service.host, *service.aliases, *((service.host.partition(".")[0],) if short else ()))
