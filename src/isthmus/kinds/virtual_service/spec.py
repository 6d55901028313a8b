"""The spec of a VirtualService, as written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import Reader, checked, fail, integer, list_of, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.filters.cors import Cors
from isthmus.filters.fault import Fault
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import wildcard_host
from isthmus.kinds.shape.support import EXPORT_TO
from isthmus.kinds.virtual_service.cors import CORS_POLICY
from isthmus.kinds.virtual_service.delegate_spec import DELEGATE, DelegateSpec, check_delegate
from isthmus.kinds.virtual_service.direct_response import DIRECT_RESPONSE
from isthmus.kinds.virtual_service.fault import FAULT
from isthmus.kinds.virtual_service.header import HEADERS
from isthmus.kinds.virtual_service.l4_spec import TCP, TLS, TcpSpec, TlsSpec, check_server_names
from isthmus.kinds.virtual_service.match import MATCH, Match
from isthmus.kinds.virtual_service.percent import PERCENTAGE, Percent, percent_problem
from isthmus.kinds.virtual_service.redirect import REDIRECT
from isthmus.kinds.virtual_service.retry import RETRY
from isthmus.kinds.virtual_service.route import (
    DESTINATION,
    MIRROR,
    REWRITE,
    ROUTE_DESTINATION,
    DestinationSpec,
    MirrorSpec,
    WeightedSpec,
    weights_problem,
)
from isthmus.model.match import Prefix
from isthmus.model.route import MESH, DirectResponse, Headers, Redirect, Retry, Rewrite

WITHOUT_EFFECT = Code(
    "ISM2151",
    Severity.WARNING,
    "A field without effect beside another",
    'the field "{name}" has no effect {beside}',
    what="A route that answers by itself has a field about forwarding, or a share stands without its mirror.",
    why="Nothing is forwarded there, so nothing is waited for, tried again or copied.",
    example="redirect: {uri: /new}\ntimeout: 5s",
    fix="Take the field out, or forward the request.",
)


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One entry of ``http``; one of ``route``, ``redirect``, ``direct_response`` and ``delegate`` is set."""

    at: Node
    name: str
    match: tuple[Match, ...]
    route: tuple[WeightedSpec, ...]
    redirect: Redirect | None
    direct_response: DirectResponse | None
    delegate: DelegateSpec | None
    rewrite: Rewrite | None
    timeout: timedelta | None
    retries: Retry
    fault: Fault | None
    mirror: DestinationSpec | None
    mirrors: tuple[MirrorSpec, ...]
    mirror_percent: int | None
    mirror_percentage: Percent | None
    cors_policy: Cors | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class VirtualServiceSpec:
    """Without ``hosts`` it is a delegate: routes for those VirtualServices that delegate to it."""

    at: Node
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    http: tuple[RouteSpec, ...]
    tcp: tuple[TcpSpec, ...]
    tls: tuple[TlsSpec, ...]


def written(node: Node, name: str) -> bool:
    """Whether the field is there. An explicit null counts as absent, as Kubernetes has it."""
    value = node.get(name)
    return value is not None and value.value is not None


_ACTIONS = ("redirect", "directResponse", "delegate", "route")
_FORWARDING = ("timeout", "retries", "mirror", "mirrors", "mirrorPercent", "mirrorPercentage", "corsPolicy")
"""Envoy's CORS filter looks at routes that forward only."""


def _route(route: RouteSpec, node: Node, report: Report) -> RouteSpec:
    actions = [name for name in _ACTIONS if written(node, name)]
    if not actions or (actions == ["route"] and not route.route):
        raise fail(report, node, "a route needs route (its destinations), redirect, directResponse or delegate")
    action = actions[0]
    impossible = {"redirect": ("rewrite", "fault"), "directResponse": ("rewrite", "fault")}.get(action, ())
    for other in (*actions[1:], *impossible):
        if written(node, other):
            raise fail(report, node.at(other), f"a route with {action} can have no {other}")
    if action in ("redirect", "directResponse"):
        _tell_without_effect(action, node, report)
    if written(node, "mirror") and written(node, "mirrors"):
        raise fail(report, node.at("mirrors"), "a route with mirror can have no mirrors")
    if route.redirect is not None and route.redirect.prefix is not None:
        for match in route.match:
            if match.match.uri is not None and not isinstance(match.match.uri, Prefix):
                reason = "prefixRewrite replaces the prefix that matched: every uri must be matched by prefix"
                raise fail(report, node.at("redirect", "prefixRewrite"), reason)
    return route


def _tell_without_effect(action: str, node: Node, report: Report) -> None:
    for name in _FORWARDING:
        if written(node, name):
            report.add(WITHOUT_EFFECT, node.key(name), name=name, beside=f"beside {action}")
    headers = node.get("headers")
    if headers is not None and written(headers, "request"):
        report.add(WITHOUT_EFFECT, headers.key("request"), name="headers.request", beside=f"beside {action}")


ROUTE: Reader[RouteSpec] = converted(
    record(
        RouteSpec,
        optional("name", text, ""),
        optional("match", list_of(MATCH), ()),
        optional("route", checked(list_of(ROUTE_DESTINATION), weights_problem), ()),
        optional("redirect", REDIRECT),
        optional("directResponse", DIRECT_RESPONSE),
        optional("delegate", DELEGATE),
        optional("rewrite", REWRITE),
        optional("timeout", positive_duration),
        optional("retries", RETRY, Retry()),
        optional("fault", FAULT),
        optional("mirror", DESTINATION),
        optional("mirrors", list_of(MIRROR), ()),
        optional("mirrorPercent", checked(integer, percent_problem), note="deprecated by Istio: mirrorPercentage"),
        optional("mirrorPercentage", PERCENTAGE),
        optional("corsPolicy", CORS_POLICY),
        optional("headers", HEADERS, Headers()),
    ),
    _route,
)


def _spec(spec: VirtualServiceSpec, node: Node, report: Report) -> VirtualServiceSpec:
    if not spec.http and not spec.tcp and not spec.tls:
        raise fail(report, node.at("http"), "a VirtualService needs http, tcp or tls routes")
    if not spec.hosts:
        check_delegate(node, report)
    if "*" in spec.hosts and MESH in spec.gateways:
        at = node.at("hosts", spec.hosts.index("*"))
        raise fail(report, at, 'the host "*" is possible at gateways only, not in the mesh')
    check_server_names(spec.tls, spec.hosts, report)
    return spec


def _gateway_problem(name: str) -> str | None:
    parts = name.split("/")
    return None if len(parts) <= 2 and all(parts) else f'"{name}" is not a gateway: write its name, or namespace/name'


SPEC: Reader[VirtualServiceSpec] = converted(
    record(
        VirtualServiceSpec,
        optional("hosts", list_of(wildcard_host, least=1), (), note="without hosts: a delegate"),
        optional("gateways", list_of(checked(text, _gateway_problem)), (MESH,)),
        optional("http", list_of(ROUTE), ()),
        optional("tcp", list_of(TCP), ()),
        optional("tls", list_of(TLS), ()),
        EXPORT_TO,
    ),
    _spec,
)
