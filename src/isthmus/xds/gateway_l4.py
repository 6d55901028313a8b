"""A gateway's servers of connections: plain TCP, TLS that ends here, and TLS passed through by its server name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from isthmus.model.attachment import RoutePlace
from isthmus.model.gateway import Gateway, Server, narrower_host
from isthmus.model.l4_route import L4Table
from isthmus.model.predicate import Destination as Listening
from isthmus.model.route import Destination
from isthmus.xds import tls
from isthmus.xds.closed_tcp import closed_at, closed_by_policy
from isthmus.xds.context import Context
from isthmus.xds.hcm import Side
from isthmus.xds.l4 import L4Caller, Way, build_chains, distinct, tcp_ways, tls_ways
from isthmus.xds.listener import Chain, peer_filters, revoked_clients
from isthmus.xds.observe import observe_tcp
from isthmus.xds.policy import tcp_filters

_NOWHERE = (Destination("", 0),)
"""Resolves to nothing: the connection is closed, and the log says that no upstream is there."""


def connection_chains(
    context: Context, at: Listening, servers: Sequence[tuple[Gateway, Server]], taken: Sequence[str]
) -> Iterator[Chain]:
    """The chains of ``servers``, all on one port, whose server names ``taken`` are those of HTTP servers beside them.

    A server without routes for a name still takes it, and closes: no wildcard beside it may answer in its place.
    """
    if not servers:
        return
    stat_prefix = f"gateway_{at.port}"
    places = [place for gateway, server in servers for _, _, place in _bound(context, gateway, server)]
    # What closes the whole port says why; where only some of it is closed, that leads nowhere.
    closed = closed_by_policy(context) and all(closed_at(context, place) for place in places)
    filters, allowing = tcp_filters(context, at, stat_prefix, closed=closed)
    log = observe_tcp(context, Side.GATEWAY.value, allowing)
    ended = [(gateway, server) for gateway, server in servers if server.tls is not None]
    for gateway, server in ended:
        names = tuple(host.name for host in server.hosts)
        ways = distinct((*_tcp(context, gateway, server, closed), Way(server.port_name, (), (), _NOWHERE)))
        assert server.tls is not None
        transport = tls.gateway_server(server.tls, gateway.namespace, context.mesh.trust_domains, (), context.world)
        before = (*peer_filters(revoked_clients(server.tls, context.world)), *filters)
        longest = context.world.svid_ttl / 4 if server.tls.mode.asks else None
        for chain in build_chains(ways, context.cluster_of, stat_prefix, log, before, context.traffic_of, longest):
            yield replace(
                chain,
                name=f"{chain.name}_{gateway.key}_{server.port_name}",
                transport_socket=transport,
                transport_protocol="tls",
                server_names=() if "*" in names else names,
            )
    passed = [
        way for gateway, server in servers if server.passthrough for way in _tls(context, gateway, server, closed)
    ]
    passed += [Way("unrouted", _names(server), (), _NOWHERE) for _, server in servers if server.passthrough]
    own = {*taken, *(name for _, server in ended for name in _names(server))}
    ways = distinct(replace(way, server_names=tuple(n for n in way.server_names if n not in own)) for way in passed)
    named = (way for way in ways if way.server_names)
    yield from build_chains(named, context.cluster_of, stat_prefix, log, filters, context.traffic_of)
    plain = [(gateway, server) for gateway, server in servers if not server.secured]
    if plain:
        found = [way for gateway, server in plain for way in _tcp(context, gateway, server, closed)]
        ways = distinct((*found, Way("unrouted", (), (), _NOWHERE)))
        yield from build_chains(ways, context.cluster_of, stat_prefix, log, filters, context.traffic_of)


def _names(server: Server) -> tuple[str, ...]:
    return tuple(dict.fromkeys(host.name for host in server.hosts))


def _tcp(context: Context, gateway: Gateway, server: Server, refused: bool) -> Iterator[Way]:
    for table, _, place in _bound(context, gateway, server):
        ways = tcp_ways((table,), _caller(context, gateway, server))
        for way in ways if refused else _unless_closed(context, place, ways):
            yield way
            if not way.subnets:
                return


def _tls(context: Context, gateway: Gateway, server: Server, refused: bool) -> Iterator[Way]:
    for table, hosts, place in _bound(context, gateway, server):
        ways = tls_ways((table,), _caller(context, gateway, server), hosts)
        yield from ways if refused else _unless_closed(context, place, ways)


def _unless_closed(context: Context, place: RoutePlace, ways: Iterable[Way]) -> Iterator[Way]:
    """What a policy closes still takes its connections: no VirtualService behind it may answer in its place."""
    closed = closed_at(context, place)
    return (replace(way, destinations=_NOWHERE) if closed else way for way in ways)


def _caller(context: Context, gateway: Gateway, server: Server) -> L4Caller:
    return L4Caller(gateway.key, context.proxy.namespace, context.proxy.labels, server.port)


def _bound(context: Context, gateway: Gateway, server: Server) -> Iterator[tuple[L4Table, tuple[str, ...], RoutePlace]]:
    """The VirtualServices bound to ``server``, each with the hosts that both mean."""
    for table in context.mesh.l4_routes:
        if gateway.key not in table.gateways:
            continue
        common = (
            narrower_host(host.name, wanted)
            for host in server.hosts
            if host.namespace in (None, table.namespace)
            for wanted in table.hosts
        )
        hosts = tuple(dict.fromkeys(host for host in common if host is not None))
        if hosts:
            yield table, hosts, RoutePlace(gateway.key, server.port_name, f"{table.namespace}/{table.name}")
