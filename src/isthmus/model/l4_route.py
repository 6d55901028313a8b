"""Routes of connections, as VirtualServices declare them in ``tcp`` and ``tls``: what HTTP is not needed for."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.diag import Origin
from isthmus.model.route import Destination


@dataclass(frozen=True, slots=True)
class L4Match:
    """One match: all that is given must hold. ``gateways`` None: those of the VirtualService."""

    server_names: tuple[str, ...] = ()
    """Of ``tls`` routes (``sniHosts``): what the ClientHello must name; ``*.example.com`` takes what ends so."""
    port: int | None = None
    gateways: tuple[str, ...] | None = None
    source_labels: tuple[tuple[str, str], ...] = ()
    source_namespace: str | None = None
    destination_subnets: tuple[str, ...] = ()
    """CIDRs of the address that the connection came to: at gateways only, in the mesh connections go by name."""


@dataclass(frozen=True, slots=True)
class L4Route:
    """The first route whose match holds takes the connection. Weights choose for the connection as a whole."""

    name: str
    matches: tuple[L4Match, ...]
    destinations: tuple[Destination, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class L4Table:
    """The routes of connections of one VirtualService, for ``hosts`` at ``gateways`` (as those of a RouteTable)."""

    name: str
    namespace: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    tcp: tuple[L4Route, ...]
    tls: tuple[L4Route, ...]
    origin: Origin
