"""Routes: a VirtualService's HTTP routes in Envoy's form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import core_v3, matcher_v3, previous_hosts_v3, protobuf, route_v3, type_v3
from isthmus.filters import FILTERS
from isthmus.model.attachment import RoutePlace
from isthmus.model.match import Exact, Prefix, Regex, StringMatch
from isthmus.model.route import (
    MESH,
    Destination,
    DirectResponse,
    Forward,
    HeaderOperations,
    Headers,
    HttpRoute,
    Mirror,
    Redirect,
    Retry,
    RouteMatch,
    RouteTable,
)
from isthmus.model.selector import labels_match
from isthmus.model.traffic_policy import TrafficPolicy
from isthmus.xds.header import add_headers, written_authority
from isthmus.xds.match import claim_matcher, header_matcher, query_matcher, regex

_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


MAX_DIRECT_RESPONSE_BYTES = 1024 * 1024
"""Of a route configuration; Envoy's own limit is 4 KiB, and beyond it all routes of a port are refused."""


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom routes are built: what VirtualService matches may ask beside the request itself."""

    gateway: str
    """``namespace/name`` of the Gateway, or ``mesh``."""
    namespace: str
    labels: Mapping[str, str]
    port: int
    """The gateway's declared port, or the service's."""
    request_port: int
    """The port that requests really come to: a gateway's published one."""
    cluster_of: Callable[[Destination], str]
    scheme: str = "http"
    """``https`` where the requests come over TLS."""
    traffic_of: Callable[[Destination], TrafficPolicy] = lambda destination: TrafficPolicy()
    """What DestinationRules say of a destination."""
    server: str = ""
    """The name of the gateway's server's port."""
    policies_at: Callable[[RoutePlace], Mapping[str, Any]] = lambda place: {}
    """What a route tells filters, by their name, because of the policies that hold there."""
    metadata_at: Callable[[RoutePlace], Mapping[str, Mapping[str, str]]] = lambda place: {}
    """What its metadata say of them, by namespace."""


def build_routes(bound: Iterable[tuple[RouteTable, Caller]]) -> list[Any]:
    """All routes of the tables, each for its caller, in order; a catch-all last: nothing behind it would be reached."""
    built: list[Any] = []
    catch_all: Any = None
    for table, caller in bound:
        routes, everything = _table_routes(table, caller)
        built.extend(routes)
        catch_all = catch_all or everything
    return [*built, catch_all] if catch_all is not None else built


def _table_routes(table: RouteTable, caller: Caller) -> tuple[list[Any], Any]:
    built: list[Any] = []
    for route in table.routes:
        for match in route.matches or (RouteMatch(),):
            if not _applies(match, table, caller):
                continue
            envoy_route = _build_route(route, match, caller)
            _add_policies(envoy_route, route, table, caller)
            if _match_is_everything(match):
                return built, envoy_route
            built.append(envoy_route)
    return built, None


def _applies(match: RouteMatch, table: RouteTable, caller: Caller) -> bool:
    """Whether what is known when routes are built (port, gateway, who calls) lets ``match`` hold at all."""
    gateways = match.gateways if match.gateways is not None else table.gateways
    return (
        caller.gateway in gateways
        and match.port in (None, caller.port)
        and (caller.gateway != MESH or labels_match(dict(match.source_labels), caller.labels))
        and (caller.gateway != MESH or match.source_namespace in (None, caller.namespace))
    )


def _match_is_everything(match: RouteMatch) -> bool:
    """Whether no request can fail it."""
    any_path = match.uri is None or match.uri == Prefix("/")
    rest = (match.method, match.authority, match.scheme, match.headers, match.without_headers, match.query)
    return any_path and not any(rest) and not match.asks_claims


def _build_route(route: HttpRoute, match: RouteMatch, caller: Caller) -> Any:
    built = route_v3.Route(name=route.name, match=_build_match(match), stat_prefix=match.stat_prefix)
    match route.action:
        case Redirect() as redirect:
            built.redirect.CopyFrom(_build_redirect(redirect, caller))
        case DirectResponse() as response:
            built.direct_response.CopyFrom(_build_direct_response(response))
        case Forward() as forward:
            built.route.CopyFrom(_build_forward(forward, match, route.headers.request, caller))
    add_headers(built, route.headers.request, route.headers.response)
    for filter_ in FILTERS:
        config = route.filters.get(filter_.config)
        if config is not None and filter_.build_route is not None:
            built.typed_per_filter_config[filter_.name].CopyFrom(any_of(filter_.build_route(config)))
    return built


def _add_policies(built: Any, route: HttpRoute, table: RouteTable, caller: Caller) -> None:
    place = RoutePlace(caller.gateway, caller.server, f"{table.namespace}/{table.name}", route.name)
    for name, message in caller.policies_at(place).items():
        built.typed_per_filter_config[name].CopyFrom(any_of(message))
    for name, fields in caller.metadata_at(place).items():
        built.metadata.filter_metadata[name].update(dict(fields))


def default_route(name: str, destination: Destination, caller: Caller) -> Any:
    """What a service without a VirtualService gets: everything, with Istio's default retries."""
    built = route_v3.Route(name=name, match=_build_match(RouteMatch()))
    built.route.CopyFrom(_build_forward(Forward((destination,)), RouteMatch(), HeaderOperations(), caller))
    return built


def _build_match(match: RouteMatch) -> Any:
    built = route_v3.RouteMatch()
    case_sensitive = protobuf.BoolValue(value=not match.ignore_uri_case)
    match match.uri:
        case None:
            built.prefix = "/"
        case Exact(value):
            built.path = value
            built.case_sensitive.CopyFrom(case_sensitive)
        case Prefix(value):
            built.prefix = value
            built.case_sensitive.CopyFrom(case_sensitive)
        case Regex(value):
            built.safe_regex.CopyFrom(regex(f"(?i){value}" if match.ignore_uri_case else value))
        case other:
            raise AssertionError(f"a VirtualService has no uri match {other}")
    pseudo: list[tuple[str, StringMatch | None]] = [
        (":method", match.method),
        (":authority", match.authority),
        (":scheme", match.scheme),
    ]
    headers = [header_matcher(name, wanted) for name, wanted in pseudo if wanted is not None]
    headers.extend(header_matcher(name, wanted) for name, wanted in match.headers)
    headers.extend(header_matcher(name, wanted, invert=True) for name, wanted in match.without_headers)
    built.headers.extend(headers)
    built.dynamic_metadata.extend(claim_matcher(claim) for claim in match.claims)
    built.dynamic_metadata.extend(claim_matcher(claim, invert=True) for claim in match.without_claims)
    built.query_parameters.extend(query_matcher(name, wanted) for name, wanted in match.query)
    return built


def _build_redirect(redirect: Redirect, caller: Caller) -> Any:
    built = route_v3.RedirectAction(
        response_code=route_v3.RedirectAction.RedirectResponseCode.Value(_REDIRECT_CODES[redirect.status])
    )
    if redirect.uri is not None:
        built.path_redirect = redirect.uri
    if redirect.prefix is not None:
        built.prefix_rewrite = redirect.prefix
    if redirect.authority is not None:
        built.host_redirect = redirect.authority
    if redirect.scheme is not None:
        built.scheme_redirect = redirect.scheme
    if redirect.port is not None:
        built.port_redirect = redirect.port
    elif redirect.port_from_request:
        built.port_redirect = caller.request_port
    elif redirect.port_of_scheme:
        built.port_redirect = 443 if (redirect.scheme or caller.scheme) == "https" else 80
    return built


def _build_direct_response(response: DirectResponse) -> Any:
    built = route_v3.DirectResponseAction(status=response.status)
    if isinstance(response.body, bytes):
        built.body.inline_bytes = response.body
    elif response.body:
        built.body.inline_string = response.body
    return built


def _build_forward(forward: Forward, match: RouteMatch, request: HeaderOperations, caller: Caller) -> Any:
    action = route_v3.RouteAction(timeout=duration(forward.timeout or timedelta()))
    if len(forward.destinations) == 1 and forward.destinations[0].headers == Headers():
        action.cluster = caller.cluster_of(forward.destinations[0])
    else:
        action.weighted_clusters.CopyFrom(_build_weighted(forward.destinations, caller))
    authority = written_authority(request)
    rewrite = forward.rewrite
    if rewrite is not None:
        authority = rewrite.authority or authority
        if rewrite.uri_regex is not None:
            action.regex_rewrite.CopyFrom(_rewrite(*rewrite.uri_regex))
        elif rewrite.uri is not None and isinstance(match.uri, Regex | Exact):
            action.regex_rewrite.CopyFrom(_rewrite("^/[^?]*", rewrite.uri.replace("\\", "\\\\")))
        elif rewrite.uri is not None:
            action.prefix_rewrite = rewrite.uri
    if authority is not None:
        action.host_rewrite_literal = authority
    if forward.retry.attempts:
        action.retry_policy.CopyFrom(_build_retry(forward.retry, sticky=_is_sticky(forward, caller)))
    action.request_mirror_policies.extend(_build_mirror(mirror, caller) for mirror in forward.mirrors)
    return action


def _build_mirror(mirror: Mirror, caller: Caller) -> Any:
    """Envoy writes ``-shadow`` behind the host of the copy, as Istio leaves it, and never waits for an answer."""
    share = type_v3.FractionalPercent(
        numerator=round(mirror.percent * 10_000), denominator=type_v3.FractionalPercent.MILLION
    )
    return route_v3.RouteAction.RequestMirrorPolicy(
        cluster=caller.cluster_of(mirror.destination),
        runtime_fraction=core_v3.RuntimeFractionalPercent(default_value=share),
        trace_sampled=protobuf.BoolValue(value=False),
    )


def _rewrite(pattern: str, substitution: str) -> Any:
    return matcher_v3.RegexMatchAndSubstitute(pattern=regex(pattern), substitution=substitution)


def _build_weighted(destinations: Sequence[Destination], caller: Caller) -> Any:
    clusters = []
    for destination in destinations:
        share = route_v3.WeightedCluster.ClusterWeight(
            name=caller.cluster_of(destination), weight=protobuf.UInt32Value(value=destination.weight)
        )
        add_headers(share, destination.headers.request, destination.headers.response)
        authority = written_authority(destination.headers.request)
        if authority is not None:
            share.host_rewrite_literal = authority
        clusters.append(share)
    return route_v3.WeightedCluster(clusters=clusters)


def _is_sticky(forward: Forward, caller: Caller) -> bool:
    """Whether a hash of the request says which endpoint it goes to."""
    balancers = (caller.traffic_of(destination).load_balancer for destination in forward.destinations)
    return any(balancer is not None and balancer.consistent_hash is not None for balancer in balancers)


def _build_retry(retry: Retry, *, sticky: bool = False) -> Any:
    """A sticky request is tried again where it belongs, unless the rule says that it must go elsewhere (Istio)."""
    conditions = list(retry.retry_on)
    if retry.status_codes:
        conditions.append("retriable-status-codes")
    built = route_v3.RetryPolicy(
        retry_on=",".join(dict.fromkeys(conditions)),
        num_retries=protobuf.UInt32Value(value=retry.attempts),
        retriable_status_codes=retry.status_codes,
        host_selection_retry_max_attempts=5,
    )
    if retry.avoid_previous_hosts or (retry.avoid_previous_hosts is None and not sticky):
        built.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts",
            typed_config=any_of(previous_hosts_v3.PreviousHostsPredicate()),
        )
    if retry.per_try_timeout is not None:
        built.per_try_timeout.CopyFrom(duration(retry.per_try_timeout))
    if retry.backoff is not None:
        built.retry_back_off.base_interval.CopyFrom(duration(retry.backoff))
    return built
