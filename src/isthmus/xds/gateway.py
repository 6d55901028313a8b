"""A gateway proxy's listeners and routes: the servers of all Gateways that select it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api.packages import protobuf, route_v3
from isthmus.model.gateway import Gateway, Server, ServerTlsMode, narrower_host
from isthmus.model.predicate import Destination as Listening
from isthmus.model.route import RouteTable
from isthmus.model.world import Address
from isthmus.xds import tls
from isthmus.xds.access_log import build_unmatched_log
from isthmus.xds.context import Context
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.gateway_l4 import connection_chains
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.listener import Chain, build_listener, peer_filters
from isthmus.xds.name import gateway_listener, server_routes
from isthmus.xds.observe import Observed, observe_http
from isthmus.xds.policy import edge_headers, http_policy
from isthmus.xds.route import MAX_DIRECT_RESPONSE_BYTES, Caller, build_routes, redirect_to_https, refuse
from isthmus.xds.route_tree import virtual_host
from isthmus.xds.snapshot import Built, build, build_joined, repeated

_MISDIRECTED = "this host has a TLS server name of its own, which asks for a client certificate\n"

_BLOCK = 8
"""Virtual hosts that are made together: to see that eight are as they were is cheaper than each."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A server that a Gateway opens on this proxy."""

    gateway: Gateway
    server: Server

    @property
    def routes(self) -> str:
        server = self.server
        return server_routes(
            self.gateway.name, self.gateway.namespace, server.port, server.port_name, tls=server.tls is not None
        )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the HTTP chains of one port have in common."""

    port: int
    filters: tuple[Any, ...]
    observed: Observed


def build_gateway(context: Context) -> Iterator[Built]:
    """Listeners and route configurations. A port without an address yet is left out."""
    by_port: dict[int, list[_Opened]] = defaultdict(list)
    for gateway in context.mesh.gateways_of(context.proxy):
        for server in gateway.servers:
            by_port[server.port].append(_Opened(gateway, server))
    for port, opened in sorted(by_port.items()):
        address = context.world.address(context.proxy.id, "gateway", port)
        if address is not None:
            yield from _build_port(context, port, address, opened, by_port)


def _build_port(
    context: Context, port: int, address: Address, opened: list[_Opened], by_port: dict[int, list[_Opened]]
) -> Iterator[Built]:
    # The kinds report a port that mixes TLS, plaintext HTTP and plain TCP; the first server says which it is.
    first = opened[0].server
    use = (first.secured, first.secured or first.is_http)
    opened = [one for one in opened if (one.server.secured, one.server.secured or one.server.is_http) == use]
    requests = [one for one in opened if one.server.is_http]
    by_routes: dict[str, list[_Opened]] = defaultdict(list)
    for one in requests:
        by_routes[one.routes].append(one)
    at = Listening(port, address.host)
    chains: list[Chain] = []
    if requests:
        policy = http_policy(context, at)
        filters = build_filter_chain(gateway_listener(port), policy.filters, (*policy.origins, context.proxy.origin))
        yield from filters.extensions
        shared = _Shared(port, filters.filters, observe_http(context, Side.GATEWAY.value, policy.log_fields))
        chains += [_build_chain(context, name, group, shared) for name, group in by_routes.items()]
    names = tuple(name for chain in chains for name in (chain.server_names or ("*",)))
    servers = [(one.gateway, one.server) for one in opened if not one.server.is_http]
    chains += connection_chains(context, at, servers, names if first.secured else ())
    origins = tuple(dict.fromkeys(one.server.origin for one in opened))
    unmatched = build_unmatched_log(context.proxy, Side.GATEWAY.value) if first.secured else None
    listener = build_listener(gateway_listener(port), address, chains, inbound=True, unmatched_log=unmatched)
    yield build(gateway_listener(port), listener, origins)
    for name, group in by_routes.items():
        yield _build_route_configuration(context, name, port, group, by_port)


def _build_chain(context: Context, routes: str, group: Sequence[_Opened], shared: _Shared) -> Chain:
    server = group[0].server
    hcm = build_hcm(
        Http(
            side=Side.GATEWAY,
            stat_prefix=f"gateway_{shared.port}",
            routes=routes,
            filters=shared.filters,
            observed=shared.observed,
            reserved_headers=edge_headers(context.mesh),
        ),
        context.mesh.settings,
    )
    if server.tls is None:
        return Chain(routes, (hcm,))
    names = tuple(sorted({host.name for one in group for host in one.server.hosts}))
    return Chain(
        name=routes,
        filters=(*peer_filters(), hcm),
        transport_socket=tls.gateway_server(server.tls, group[0].gateway.namespace),
        transport_protocol="tls",
        server_names=() if "*" in names else names,
    )


def _build_route_configuration(
    context: Context, name: str, port: int, group: Sequence[_Opened], by_port: dict[int, list[_Opened]]
) -> Built:
    hosts: dict[str, list[Any]] = defaultdict(list)
    origins: list[Origin] = []
    redirects: dict[str, int] = {}
    misdirected = (*_misdirected(group, by_port[port]), *_closed(context, port, group))
    for one in group:
        if one.server.https_redirect:
            for host in one.server.hosts:
                redirects[host.name] = _https_port(context, host.name, by_port)
            continue
        for bound_host, table in _bound(context, one):
            if any(narrower_host(host, bound_host) == bound_host for host in misdirected):
                continue
            hosts[bound_host].append((one.gateway, table))
            origins.append(table.origin)
    virtual_hosts = [
        route_v3.VirtualHost(name=f"{host}:{port}", domains=[host], routes=[redirect_to_https(target)])
        for host, target in redirects.items()
    ]
    virtual_hosts += [
        route_v3.VirtualHost(name=f"{host}:{port}", domains=[host], routes=[refuse("misdirected", 421, _MISDIRECTED)])
        for host in dict.fromkeys(misdirected)
        if host not in redirects
    ]
    scheme = "http" if group[0].server.tls is None else "https"
    wires = [repeated(route_v3.RouteConfiguration, "virtual_hosts", virtual_hosts)]
    named = [(host, tuple(bound)) for host, bound in hosts.items() if host not in redirects]
    blocks = (tuple(named[at : at + _BLOCK]) for at in range(0, len(named), _BLOCK))
    wires += [context.recall(_build_hosts, port, scheme, block) for block in blocks]
    configuration = route_v3.RouteConfiguration(
        name=name,
        ignore_port_in_host_matching=True,
        validate_clusters=protobuf.BoolValue(value=False),
        max_direct_response_body_size_bytes=protobuf.UInt32Value(value=MAX_DIRECT_RESPONSE_BYTES),
    )
    # What people edit most comes first: it is what they look for when Envoy refuses the whole.
    origins.extend(one.server.origin for one in group)
    return build_joined(name, configuration, wires, dict.fromkeys(origins))


def _build_hosts(
    context: Context, port: int, scheme: str, named: tuple[tuple[str, tuple[tuple[Gateway, RouteTable], ...]], ...]
) -> bytes:
    """Some virtual hosts, serialised: most stay as they were when one changes."""
    hosts = (
        virtual_host(f"{host}:{port}", [host], _host_routes(context, port, scheme, bound)) for host, bound in named
    )
    return repeated(route_v3.RouteConfiguration, "virtual_hosts", hosts)


def _misdirected(group: Sequence[_Opened], on_port: Sequence[_Opened]) -> tuple[str, ...]:
    """Hosts whose own server asks for client certificates, within those of ``group``, which does not ask for the same.

    A request for one of them that comes by another server name would slip past its server's demand. Answered with 421
    (RFC 9110, section 15.5.20), on which a client whose connection was for a wildcard's other hosts opens a new one.
    """
    asked = {_demanded(one) for one in group}
    others = (one for one in on_port if _demanded(one) is not None and asked != {_demanded(one)})
    narrower = {
        host.name
        for one in others
        for host in one.server.hosts
        for own in (own for mine in group for own in mine.server.hosts)
        if own.name != host.name and narrower_host(own.name, host.name) == host.name
    }
    return tuple(sorted(narrower))


def _closed(context: Context, port: int, group: Sequence[_Opened]) -> tuple[str, ...]:
    """Hosts of servers that are not opened: a wildcard's server must not answer for them, without their demands."""
    own = {host.name for one in group for host in one.server.hosts}
    claimed = {
        host
        for gateway in context.mesh.gateways_of(context.proxy)
        for server in gateway.closed
        if server.port == port
        for host in server.hosts
    }
    common = {narrower_host(mine, host) for mine in own for host in claimed}
    return tuple(sorted(host for host in common if host is not None and host in claimed))


def _demanded(one: _Opened) -> tuple[str, str] | None:
    """Whose client certificates a server asks for: namespace and name of the authority's Secret.

    What connections are passed on to has demands of its own, which are not known here.
    """
    if not one.server.is_http:
        return one.gateway.key, one.server.port_name
    tls_settings = one.server.tls
    if tls_settings is None or tls_settings.mode is not ServerTlsMode.MUTUAL:
        return None
    return one.gateway.namespace, tls_settings.ca_credential or ""


def _host_routes(context: Context, port: int, scheme: str, bound: Sequence[tuple[Gateway, RouteTable]]) -> list[Any]:
    published = context.world.address(context.proxy.id, "gateway", port)
    callers = {
        gateway.key: Caller(
            gateway=gateway.key,
            namespace=context.proxy.namespace,
            labels=context.proxy.labels,
            port=port,
            request_port=published.port if published is not None else port,
            cluster_of=context.cluster_of,
            scheme=scheme,
            traffic_of=context.traffic_of,
        )
        for gateway, _ in bound
    }
    # A table is bound twice where several of its hosts have the same in common with the server's.
    once: dict[tuple[str, str, str], tuple[RouteTable, Caller]] = {}
    for gateway, table in bound:
        once.setdefault((gateway.key, table.namespace, table.name), (table, callers[gateway.key]))
    return build_routes(once.values())


def _bound(context: Context, one: _Opened) -> Iterator[tuple[str, RouteTable]]:
    """The VirtualServices bound to a server, each with the host that both mean."""
    for table in context.mesh.routes_at(one.gateway.key):
        for wanted in table.hosts:
            for host in one.server.hosts:
                if host.namespace in (None, table.namespace):
                    common = narrower_host(host.name, wanted)
                    if common is not None:
                        yield common, table


def _https_port(context: Context, host: str, by_port: dict[int, list[_Opened]]) -> int:
    """The published port of the HTTPS server for ``host``; 443 if this proxy has none."""
    for port, opened in sorted(by_port.items()):
        address = context.world.address(context.proxy.id, "gateway", port)
        serves = any(
            one.server.tls is not None
            and one.server.is_http
            and any(narrower_host(name.name, host) for name in one.server.hosts)
            for one in opened
        )
        if address is not None and serves:
            return address.port
    return 443
