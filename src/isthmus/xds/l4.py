"""Routes of connections in Envoy's form: which filter chain takes a connection, and to which clusters it leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from isthmus.model.cluster import Service, ServicePort
from isthmus.model.gateway import narrower_host
from isthmus.model.host import host_covers
from isthmus.model.l4_route import L4Match, L4Route, L4Table
from isthmus.model.mesh import Mesh
from isthmus.model.route import MESH, Destination
from isthmus.model.selector import labels_match
from isthmus.model.traffic_policy import TrafficPolicy
from isthmus.xds.listener import Chain, build_tcp_proxy
from isthmus.xds.observe import Observed


@dataclass(frozen=True, slots=True)
class L4Caller:
    """For whom the ways are chosen: what matches may ask beside the connection itself."""

    gateway: str
    """``namespace/name`` of the Gateway, or ``mesh``."""
    namespace: str
    labels: Mapping[str, str]
    port: int


@dataclass(frozen=True, slots=True)
class Way:
    """Which connections, and where they go. Without server names and subnets: all that no other way takes."""

    name: str
    server_names: tuple[str, ...]
    subnets: tuple[str, ...]
    destinations: tuple[Destination, ...]


def tcp_ways(tables: Iterable[L4Table], caller: L4Caller) -> Iterator[Way]:
    """The ways of ``tcp`` routes, the first that takes everything last."""
    for _, route, match in _in_force(((table, table.tcp) for table in tables), caller):
        yield Way(route.name, (), match.destination_subnets, route.destinations)
        if not match.destination_subnets:
            return


def tls_ways(tables: Iterable[L4Table], caller: L4Caller, hosts: Sequence[str] = ("*",)) -> Iterator[Way]:
    """The ways of ``tls`` routes for the server names that ``hosts`` cover."""
    for _, route, match in _in_force(((table, table.tls) for table in tables), caller):
        found = (narrower_host(host, name) for host in hosts for name in match.server_names)
        names = tuple(dict.fromkeys(name for name in found if name is not None))
        if names:
            yield Way(route.name, names, match.destination_subnets, route.destinations)


def _in_force(
    tables: Iterable[tuple[L4Table, tuple[L4Route, ...]]], caller: L4Caller
) -> Iterator[tuple[L4Table, L4Route, L4Match]]:
    for table, routes in tables:
        for route in routes:
            for match in route.matches or (L4Match(),):
                if _applies(match, table, caller):
                    yield table, route, match


def _applies(match: L4Match, table: L4Table, caller: L4Caller) -> bool:
    in_mesh = caller.gateway == MESH
    return (
        caller.gateway in (match.gateways if match.gateways is not None else table.gateways)
        and match.port in (None, caller.port)
        and (not in_mesh or labels_match(dict(match.source_labels), caller.labels))
        and (not in_mesh or match.source_namespace in (None, caller.namespace))
        # In the mesh a connection goes by name: there is no address that it came to.
        and not (in_mesh and match.destination_subnets)
    )


def distinct(ways: Iterable[Way]) -> Iterator[Way]:
    """Without what a way before takes already: Envoy refuses a listener with two chains for the same connections."""
    taken: set[tuple[str, str]] = set()
    for way in ways:
        for subnet in way.subnets or ("",):
            free = tuple(name for name in way.server_names or ("",) if (name, subnet) not in taken)
            taken.update((name, subnet) for name in free)
            if free:
                yield replace(way, server_names=tuple(filter(None, free)), subnets=tuple(filter(None, (subnet,))))


def build_chains(
    ways: Iterable[Way],
    cluster_of: Callable[[Destination], str],
    stat_prefix: str,
    log: Observed,
    before: tuple[Any, ...] = (),
    traffic_of: Callable[[Destination], TrafficPolicy] | None = None,
    longest_connection: timedelta | None = None,
) -> list[Chain]:
    """A filter chain for each way: what is ``before`` (access control), then the bytes to its clusters.

    ``traffic_of``: what DestinationRules say; of several destinations, the first one's counts, as in Istio.
    """
    chains = []
    for index, way in enumerate(ways):
        shares = [(cluster_of(destination), destination.weight) for destination in way.destinations]
        traffic = traffic_of(way.destinations[0]) if traffic_of is not None else None
        chains.append(
            Chain(
                name=f"{stat_prefix}_{index}_{way.name}",
                filters=(*before, build_tcp_proxy(stat_prefix, shares, log, traffic, longest_connection)),
                transport_protocol="tls" if way.server_names else "",
                server_names=() if "*" in way.server_names else way.server_names,
                subnets=way.subnets,
            )
        )
    return chains


def mesh_table(mesh: Mesh, host: str) -> L4Table | None:
    """The VirtualService whose hosts name ``host`` most closely, of those that sidecars obey; else None."""
    best: tuple[int, L4Table] | None = None
    for table in mesh.l4_routes:
        if MESH not in table.gateways:
            continue
        for pattern in table.hosts:
            weight = 1_000_000 if pattern == host else len(pattern)
            if host_covers(pattern, host) and (best is None or weight > best[0]):
                best = (weight, table)
    return best[1] if best else None


def service_ways(
    mesh: Mesh, service: Service, port: ServicePort, namespace: str, labels: Mapping[str, str]
) -> tuple[Way, ...]:
    """How a sidecar's own connections to ``port`` of ``service`` go on; just to it, without a VirtualService."""
    caller = L4Caller(MESH, namespace, labels, port.number)
    table = mesh_table(mesh, service.host)
    tables = (table,) if table is not None else ()
    straight = Way("default", (), (), (Destination(service.host, port.number),))
    by_name = tls_ways(tables, caller) if not port.protocol.is_http else ()
    return tuple(distinct((*by_name, *tcp_ways(tables, caller), straight)))
