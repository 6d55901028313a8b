"""``tcp[]`` and ``tls[]`` of a VirtualService, as written: routes of whole connections."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from isthmus.config.decode import (
    Reader,
    Unreadable,
    checked,
    integer,
    list_of,
    map_of,
    narrows,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import wildcard_host
from isthmus.kinds.virtual_service.route import DESTINATION, DestinationSpec, WeightedSpec, weights_problem
from isthmus.model.host import host_covers
from isthmus.model.route import Headers

SERVER_NAME_OUTSIDE = Code(
    "ISM2160",
    Severity.ERROR,
    "A server name outside the VirtualService's hosts",
    'the server name "{name}" is within none of the hosts ({hosts})',
    what="A tls route matches a server name (SNI) that no host of its VirtualService covers.",
    why="The hosts say which connections the VirtualService speaks of; Istio refuses such a route.",
    example="hosts: [db.example.com]\ntls:\n  - match: [{sniHosts: [other.example.com]}]",
    fix="Add the name to hosts, or correct it.",
)


@dataclass(frozen=True, slots=True)
class L4MatchSpec:
    """A match whose gateways are still as written; of ``tcp`` routes, without server names."""

    at: Node
    destination_subnets: tuple[str, ...]
    port: int | None
    source_labels: dict[str, str]
    gateways: tuple[str, ...]
    source_namespace: str | None
    sni_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSpec:
    at: Node
    match: tuple[L4MatchSpec, ...]
    route: tuple[WeightedSpec, ...]


@dataclass(frozen=True, slots=True)
class TlsSpec:
    at: Node
    match: tuple[L4MatchSpec, ...]
    route: tuple[WeightedSpec, ...]


def _subnet_problem(written: str) -> str | None:
    try:
        ip_network(written, strict=False)
    except ValueError:
        return f'"{written}" is not an IP address or a CIDR range'
    return None


@dataclass(frozen=True, slots=True)
class _Share:
    at: Node
    destination: DestinationSpec
    weight: int


def _weighted(share: _Share, node: Node, report: Report) -> WeightedSpec:
    return WeightedSpec(node, share.destination, share.weight, Headers())


_SHARE: Reader[WeightedSpec] = converted(
    record(
        _Share,
        required("destination", DESTINATION),
        optional("weight", checked(integer, lambda value: "a weight is not negative" if value < 0 else None), 0),
    ),
    _weighted,
)
_MATCH = (
    optional("destinationSubnets", list_of(checked(text, _subnet_problem)), (), note="at gateways only"),
    optional("port", port),
    optional("sourceLabels", map_of(text), {}),
    optional("gateways", list_of(checked(text, lambda name: None if name else "a gateway needs a name")), ()),
    optional("sourceNamespace", text),
)
_ROUTE = required("route", checked(list_of(_SHARE, least=1), weights_problem))
_TCP_MATCH = record(L4MatchSpec, *_MATCH, narrows("sourceSubnet"))
_TLS_MATCH = record(L4MatchSpec, required("sniHosts", list_of(wildcard_host, least=1)), *_MATCH)
TCP: Reader[TcpSpec] = record(TcpSpec, optional("match", list_of(_TCP_MATCH), ()), _ROUTE)
TLS: Reader[TlsSpec] = record(TlsSpec, required("match", list_of(_TLS_MATCH, least=1)), _ROUTE)


def check_server_names(routes: tuple[TlsSpec, ...], hosts: tuple[str, ...], report: Report) -> None:
    """Report server names that none of ``hosts`` covers, and raise Unreadable if there is any."""
    outside = False
    known = tuple(host.lower().removesuffix(".") for host in hosts)
    for match in (match for route in routes for match in route.match):
        for index, name in enumerate(match.sni_hosts):
            wanted = name.lower().removesuffix(".")
            if not any(host == wanted or host_covers(host, wanted) for host in known):
                report.add(SERVER_NAME_OUTSIDE, match.at.at("sniHosts", index), name=name, hosts=", ".join(hosts))
                outside = True
    if outside:
        raise Unreadable
