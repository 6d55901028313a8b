"""A gateway proxy's listeners and routes: the servers of all Gateways that select it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.diag import Origin
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, protobuf, route_v3
from isthmus.model.gateway import Gateway, Server, narrower_host
from isthmus.model.host import wildcards
from isthmus.model.predicate import Destination as Listening
from isthmus.model.route import RouteTable
from isthmus.model.world import Address, PortKey
from isthmus.xds import tls
from isthmus.xds.access import challenge
from isthmus.xds.access_log import build_revoked_log, build_unmatched_log
from isthmus.xds.binding import Bindings
from isthmus.xds.client_ocsp import client_ocsp_filters, longest_connection
from isthmus.xds.context import Context
from isthmus.xds.extension import build_filter_chain
from isthmus.xds.gateway_l4 import connection_chains
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.health_port import build_health_ports
from isthmus.xds.listener import Chain, build_listener, peer_filters, revoked_clients
from isthmus.xds.local_reply import build_local_replies
from isthmus.xds.misdirected import Demanding, elsewhere, refused_hosts
from isthmus.xds.name import gateway_listener, server_routes
from isthmus.xds.observe import Observed, observe_http
from isthmus.xds.oidc import login_routes, with_logins
from isthmus.xds.on_demand import LONGEST_HANDSHAKE, get_on_demand, on_demand
from isthmus.xds.plain_route import redirect_to_https
from isthmus.xds.policy import edge_headers, http_policy
from isthmus.xds.problem import agreed
from isthmus.xds.route import MAX_DIRECT_RESPONSE_BYTES, Caller, build_routes
from isthmus.xds.route_policy import route_metadata, route_policies, unnamed_configs
from isthmus.xds.route_tree import virtual_host
from isthmus.xds.snapshot import Built, build, build_joined, repeated

_BLOCK = 8
"""Virtual hosts that are made together: to see that eight are as they were is cheaper than each."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A server that a Gateway opens on this proxy."""

    gateway: Gateway
    server: Server
    shared: str | None = None
    """The chain that it has in common with others, whose certificates are got on demand."""

    @property
    def routes(self) -> str:
        server = self.server
        if self.shared is not None:
            return self.shared
        return server_routes(
            self.gateway.name, self.gateway.namespace, server.port, server.port_name, tls=server.tls is not None
        )


_Bound = tuple[Gateway, RouteTable, str]
"""A VirtualService at a Gateway, by the server of that port name."""


@dataclass(frozen=True, slots=True)
class _Port:
    """What the route configurations of one port have in common."""

    number: int
    by_port: Mapping[int, Sequence[_Opened]]
    demanding: Demanding
    bindings: Mapping[str, Bindings]
    """By Gateway."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the HTTP chains of one port have in common."""

    port: int
    filters: tuple[Any, ...]
    observed: Observed
    reserved_headers: tuple[str, ...]


def build_gateway(context: Context) -> Iterator[Built]:
    """Listeners and route configurations. A port without an address yet is left out."""
    by_port: dict[int, list[_Opened]] = defaultdict(list)
    shared = on_demand(context.mesh, context.proxy).chains
    for gateway in context.mesh.gateways_of(context.proxy):
        for server in gateway.servers:
            by_port[server.port].append(_Opened(gateway, server, shared.get((gateway.key, server.port_name))))
    for port, opened in sorted(by_port.items()):
        address = context.world.address(context.proxy.id, "gateway", port)
        if address is not None:
            yield from _build_port(context, port, address, opened, by_port)
    yield from build_health_ports(context)


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
        observed = observe_http(context, Side.GATEWAY.value, policy.log_fields)
        shared = _Shared(port, filters.filters, observed, edge_headers(context.mesh))
        chains += [_build_chain(context, name, group, shared) for name, group in by_routes.items()]
    names = tuple(name for chain in chains for name in (chain.server_names or ("*",)))
    servers = [(one.gateway, one.server) for one in opened if not one.server.is_http]
    chains += connection_chains(context, at, servers, names if first.secured else ())
    origins = tuple(dict.fromkeys(one.server.origin for one in opened))
    unmatched = build_unmatched_log(context.proxy, Side.GATEWAY.value) if first.secured else None
    shut_out = context.world.shut_out.get(PortKey(context.proxy.id, "gateway", port), ())
    listener = build_listener(
        gateway_listener(port), address, chains, inbound=True, unmatched_log=unmatched, shut_out=shut_out
    )
    if any(one.server.tls is not None and one.server.tls.validation.ocsp is not None for one in requests):
        listener.access_log.append(build_revoked_log(context.proxy, Side.GATEWAY.value))
    yield build(gateway_listener(port), listener, origins)
    demanding = Demanding.of(((one.gateway, one.server) for one in by_port[port]), _closed(context, port))
    keys = dict.fromkeys(one.gateway.key for one in requests)
    known = _Port(port, by_port, demanding, {key: Bindings(context.mesh.routes_at(key)) for key in keys})
    for name, group in by_routes.items():
        yield _build_route_configuration(context, name, known, group)


def _build_chain(context: Context, routes: str, group: Sequence[_Opened], shared: _Shared) -> Chain:
    server = group[0].server
    problems = agreed(one.server.client_traffic.problems for one in group if not one.server.https_redirect)
    hcm = build_hcm(
        Http(
            side=Side.GATEWAY,
            stat_prefix=f"gateway_{shared.port}",
            routes=routes,
            filters=shared.filters,
            observed=shared.observed,
            reserved_headers=shared.reserved_headers,
            longest_connection=longest_connection(server.tls, context.world),
            told=server.client_traffic.headers,
            local_replies=build_local_replies(challenge(context), problems),
        ),
        context.mesh.settings,
    )
    if server.tls is None:
        return Chain(routes, (hcm,))
    names = tuple(sorted({host.name for one in group for host in one.server.hosts}))
    namespace = group[0].gateway.namespace
    transport_socket = tls.gateway_server(server.tls, namespace, context.mesh.trust_domains, world=context.world)
    return Chain(
        name=routes,
        filters=(
            *peer_filters(revoked_clients(server.tls, context.world)),
            *client_ocsp_filters(server.tls, namespace, context.world),
            hcm,
        ),
        transport_socket=transport_socket if group[0].shared is None else get_on_demand(transport_socket),
        transport_protocol="tls",
        server_names=() if "*" in names else names,
        longest_handshake=None if group[0].shared is None else LONGEST_HANDSHAKE,
    )


def _build_route_configuration(context: Context, name: str, known: _Port, group: Sequence[_Opened]) -> Built:
    port = known.number
    hosts: dict[str, list[_Bound]] = defaultdict(list)
    origins: list[Origin] = []
    redirects: dict[str, int] = {}
    misdirected = frozenset(known.demanding.within([(one.gateway, one.server) for one in group]))
    for one in group:
        if one.server.https_redirect:
            for host in one.server.hosts:
                redirects[host.name] = _https_port(context, host.name, known.by_port)
            continue
        bindings = known.bindings[one.gateway.key]
        for bound_host, table in (found for host in one.server.hosts for found in bindings.of(host)):
            if not misdirected.isdisjoint(wildcards(bound_host)):
                continue
            hosts[bound_host].append((one.gateway, table, one.server.port_name))
            origins.append(table.origin)
    virtual_hosts = [
        route_v3.VirtualHost(name=f"{host}:{port}", domains=[host], routes=[redirect_to_https(target)])
        for host, target in redirects.items()
    ]
    virtual_hosts += refused_hosts(sorted(misdirected - redirects.keys()), port)
    if group[0].server.tls is not None:
        own = (host.name for one in group for host in one.server.hosts)
        virtual_hosts += elsewhere(own, {*redirects, *misdirected, *hosts}, port)
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
    told = group[0].server.client_traffic.headers.certificate
    if told is not None:
        configuration.request_headers_to_add.append(_certificate_header(told))
    for filter_name, config in unnamed_configs(context, _at(context, port), gateway_listener(port)).items():
        configuration.typed_per_filter_config[filter_name].CopyFrom(any_of(config))
    # What people edit most comes first: it is what they look for when Envoy refuses the whole.
    origins.extend(one.server.origin for one in group)
    return build_joined(name, configuration, wires, dict.fromkeys(origins))


def _certificate_header(name: str) -> Any:
    """The client's whole certificate; of a client without one the header stays away."""
    header = core_v3.HeaderValue(key=name, value="%DOWNSTREAM_PEER_CERT%")
    option = core_v3.HeaderValueOption
    return option(header=header, append_action=option.OVERWRITE_IF_EXISTS_OR_ADD)


def _build_hosts(context: Context, port: int, scheme: str, named: tuple[tuple[str, tuple[_Bound, ...]], ...]) -> bytes:
    """Some virtual hosts, serialised: most stay as they were when one changes."""
    hosts = (
        virtual_host(f"{host}:{port}", [host], _host_routes(context, port, scheme, bound)) for host, bound in named
    )
    return repeated(route_v3.RouteConfiguration, "virtual_hosts", hosts)


def _closed(context: Context, port: int) -> Iterator[str]:
    """The hosts of servers that are not opened on this port."""
    for gateway in context.mesh.gateways_of(context.proxy):
        for server in gateway.closed:
            if server.port == port:
                yield from server.hosts


def _host_routes(context: Context, port: int, scheme: str, bound: Sequence[_Bound]) -> list[Any]:
    published = context.world.address(context.proxy.id, "gateway", port)
    policies_at = with_logins(context, route_policies(context, _at(context, port), gateway_listener(port)))
    metadata = route_metadata(context)
    callers = {
        (gateway.key, server): Caller(
            gateway=gateway.key,
            namespace=context.proxy.namespace,
            labels=context.proxy.labels,
            port=port,
            request_port=published.port if published is not None else port,
            cluster_of=context.cluster_of,
            scheme=scheme,
            traffic_of=context.traffic_of,
            server=server,
            policies_at=policies_at,
            metadata_at=metadata,
        )
        for gateway, _, server in bound
    }
    # A table is bound twice where several of its hosts have the same in common with the server's.
    once: dict[tuple[str, str, str], tuple[RouteTable, Caller]] = {}
    for gateway, table, server in bound:
        once.setdefault((gateway.key, table.namespace, table.name), (table, callers[gateway.key, server]))
    own = login_routes(context, ((gateway.key, server, table) for gateway, table, server in bound))
    return [*own, *build_routes(once.values())]


def _at(context: Context, port: int) -> Listening:
    published = context.world.address(context.proxy.id, "gateway", port)
    return Listening(port, published.host if published is not None else None)


def _https_port(context: Context, host: str, by_port: Mapping[int, Sequence[_Opened]]) -> int:
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
