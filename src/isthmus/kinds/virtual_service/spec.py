"""The spec of a VirtualService, as written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import (
    Reader,
    checked,
    fail,
    later,
    list_of,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.filters.fault import Fault
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import wildcard_host
from isthmus.kinds.shape.support import EXPORT_TO, refused
from isthmus.kinds.virtual_service.fault import FAULT
from isthmus.kinds.virtual_service.header import HEADERS
from isthmus.kinds.virtual_service.match import MATCH, Match
from isthmus.kinds.virtual_service.route import (
    REDIRECT,
    RETRY,
    REWRITE,
    ROUTE_DESTINATION,
    WeightedSpec,
    weights_problem,
)
from isthmus.model.route import MESH, Headers, Redirect, Retry, Rewrite


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One entry of ``http``; ``route`` or ``redirect`` is set."""

    at: Node
    name: str
    match: tuple[Match, ...]
    route: tuple[WeightedSpec, ...]
    redirect: Redirect | None
    rewrite: Rewrite | None
    timeout: timedelta | None
    retries: Retry
    fault: Fault | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class VirtualServiceSpec:
    at: Node
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    http: tuple[RouteSpec, ...]


def _route(route: RouteSpec, node: Node, report: Report) -> RouteSpec:
    if route.redirect is None and not route.route:
        raise fail(report, node, "a route needs route (its destinations) or redirect")
    if route.redirect is not None:
        for other in ("route", "rewrite", "fault"):
            if node.get(other) is not None:
                raise fail(report, node.at(other), f"a route that redirects can have no {other}")
    return route


_ANSWERS = "a later route would answer in its place"
ROUTE: Reader[RouteSpec] = converted(
    record(
        RouteSpec,
        optional("name", text, ""),
        optional("match", list_of(MATCH), ()),
        optional("route", checked(list_of(ROUTE_DESTINATION), weights_problem), ()),
        optional("redirect", REDIRECT),
        optional("rewrite", REWRITE),
        optional("timeout", positive_duration),
        optional("retries", RETRY, Retry()),
        optional("fault", FAULT),
        optional("headers", HEADERS, Headers()),
        refused("directResponse", _ANSWERS),
        refused("delegate", _ANSWERS),
        later("mirror"),
        later("mirrors"),
        later("mirrorPercent"),
        later("mirrorPercentage"),
        later("corsPolicy"),
    ),
    _route,
)


def _spec(spec: VirtualServiceSpec, node: Node, report: Report) -> VirtualServiceSpec:
    if not spec.http and node.get("tcp") is None and node.get("tls") is None:
        raise fail(report, node.at("http"), "a VirtualService needs http routes")
    if "*" in spec.hosts and MESH in spec.gateways:
        at = node.at("hosts", spec.hosts.index("*"))
        raise fail(report, at, 'the host "*" is possible at gateways only, not in the mesh')
    return spec


def _gateway_problem(name: str) -> str | None:
    parts = name.split("/")
    return None if len(parts) <= 2 and all(parts) else f'"{name}" is not a gateway: write its name, or namespace/name'


SPEC: Reader[VirtualServiceSpec] = converted(
    record(
        VirtualServiceSpec,
        required("hosts", list_of(wildcard_host, least=1)),
        optional("gateways", list_of(checked(text, _gateway_problem)), (MESH,)),
        optional("http", list_of(ROUTE), ()),
        later("tcp"),
        later("tls"),
        EXPORT_TO,
    ),
    _spec,
)
