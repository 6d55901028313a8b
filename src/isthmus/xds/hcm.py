"""The HTTP connection manager, at the edge, before a program and for a program's own calls."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    core_v3,
    header_mutation_http_v3,
    http_connection_manager_v3,
    listener_v3,
    matcher_v3,
    mutation_rules_v3,
    protobuf,
)
from isthmus.model.client_headers import USUAL_HEADERS, CertificateDetail, ClientHeaders
from isthmus.model.settings import PathNormalization, Settings
from isthmus.xds.cluster import ads
from isthmus.xds.observe import Observed

_HCM = http_connection_manager_v3.HttpConnectionManager
_KIB = 1024
_ORIGINAL_PATH = "x-envoy-original-path"
"""What logs and spans take for the path, where a route has rewritten it: nobody else may say it."""


class Side(Enum):
    """Where a connection manager stands."""

    GATEWAY = "gateway"
    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class Http:
    """What one connection manager is told. ``routes`` is a route configuration's name, or the configuration itself."""

    side: Side
    stat_prefix: str
    routes: Any
    filters: tuple[Any, ...]
    observed: Observed
    reserved_headers: tuple[str, ...] = ()
    """Headers that only the inside may set: taken away before anything looks at the request."""
    local_replies: Any = None
    longest_connection: timedelta | None = None
    tunnels: bool = False
    """Whether CONNECT is answered at all; which are, the routes say."""
    told: ClientHeaders = USUAL_HEADERS
    """At the edge: what is told of clients' certificates. Headers of their own, the routes set."""


def build_hcm(http: Http, settings: Settings) -> Any:
    """The network filter."""
    edge = http.side is Side.GATEWAY
    inside = http.side is Side.INBOUND
    built = _HCM(
        codec_type=_HCM.AUTO,
        stat_prefix=http.stat_prefix,
        http_filters=http.filters,
        access_log=http.observed.logs,
        use_remote_address=protobuf.BoolValue(value=edge),
        xff_num_trusted_hops=settings.trusted_proxies if edge else 0,
        generate_request_id=protobuf.BoolValue(value=True),
        preserve_external_request_id=inside,
        common_http_protocol_options=_common_options(http),
        http2_protocol_options=_http2_options(http.side),
        stream_idle_timeout=duration(timedelta(minutes=5)) if edge else duration(timedelta()),
        server_name="isthmus",
        server_header_transformation=_HCM.OVERWRITE if edge else _HCM.PASS_THROUGH,
        upgrade_configs=[_HCM.UpgradeConfig(upgrade_type=name) for name in _upgrades(http)],
        early_header_mutation_extensions=_strip(http),
        forward_client_cert_details=_xfcc_mode(http),
        normalize_path=protobuf.BoolValue(value=settings.path_normalization is not PathNormalization.NONE or edge),
        merge_slashes=edge
        or settings.path_normalization in (PathNormalization.MERGE_SLASHES, PathNormalization.DECODE_AND_MERGE_SLASHES),
        path_with_escaped_slashes_action=_escaped_slashes(http.side, settings),
        # "shop.example.com." is the same host: neither another virtual host, nor a way around a policy's hosts.
        strip_trailing_host_dot=True,
    )
    if edge:
        built.request_headers_timeout.CopyFrom(duration(timedelta(seconds=10)))
    if http.side is not Side.OUTBOUND:
        built.set_current_client_cert_details.CopyFrom(_xfcc_details(http.told.forwarded if edge else _INSIDE))
    if isinstance(http.routes, str):
        built.rds.CopyFrom(http_connection_manager_v3.Rds(config_source=ads(), route_config_name=http.routes))
    else:
        built.route_config.CopyFrom(http.routes)
    if http.observed.tracing is not None:
        built.tracing.CopyFrom(http.observed.tracing)
    if http.local_replies is not None:
        built.local_reply_config.CopyFrom(http.local_replies)
    return listener_v3.Filter(name="envoy.filters.network.http_connection_manager", typed_config=any_of(built))


def _upgrades(http: Http) -> tuple[str, ...]:
    """WebSocket everywhere, as in Istio: an upgrade is a request that meets every filter."""
    return ("websocket", "CONNECT") if http.tunnels else ("websocket",)


def _xfcc_mode(http: Http) -> Any:
    """At the edge nothing comes in and ours goes on; before a program the caller's is added; a program sets none."""
    at_edge = _HCM.SANITIZE if http.told.forwarded is None else _HCM.SANITIZE_SET
    return {Side.GATEWAY: at_edge, Side.INBOUND: _HCM.APPEND_FORWARD, Side.OUTBOUND: _HCM.SANITIZE}[http.side]


_INSIDE = (CertificateDetail.SUBJECT, CertificateDetail.URI, CertificateDetail.DNS)


def _xfcc_details(told: Collection[CertificateDetail] | None) -> Any:
    told = told or ()
    return _HCM.SetCurrentClientCertDetails(
        subject=protobuf.BoolValue(value=CertificateDetail.SUBJECT in told),
        uri=CertificateDetail.URI in told,
        dns=CertificateDetail.DNS in told,
        cert=CertificateDetail.CERT in told,
        chain=CertificateDetail.CHAIN in told,
    )


def _common_options(http: Http) -> Any:
    edge = http.side is Side.GATEWAY
    underscore = core_v3.HttpProtocolOptions.HeadersWithUnderscoresAction
    options = core_v3.HttpProtocolOptions(
        idle_timeout=duration(timedelta(minutes=5) if edge else timedelta(hours=1)),
        headers_with_underscores_action=underscore.Value("REJECT_REQUEST" if edge else "ALLOW"),
        max_headers_count=protobuf.UInt32Value(value=100),
    )
    if http.longest_connection is not None:
        options.max_connection_duration.CopyFrom(duration(http.longest_connection))
    return options


def _http2_options(side: Side) -> Any:
    return core_v3.Http2ProtocolOptions(
        # Between proxies an upgrade is an extended CONNECT (RFC 8441).
        allow_connect=side is not Side.OUTBOUND,
        max_concurrent_streams=protobuf.UInt32Value(value=100),
        initial_stream_window_size=protobuf.UInt32Value(value=64 * _KIB),
        initial_connection_window_size=protobuf.UInt32Value(value=_KIB * _KIB),
    )


def _escaped_slashes(side: Side, settings: Settings) -> Any:
    if side is Side.GATEWAY:
        return _HCM.REJECT_REQUEST
    if settings.path_normalization is PathNormalization.DECODE_AND_MERGE_SLASHES:
        return _HCM.UNESCAPE_AND_FORWARD
    return _HCM.KEEP_UNCHANGED


def _strip(http: Http) -> list[Any]:
    """Runs before routing and before every filter, on CORS preflights too, where jwt_authn lets them through."""
    mutations = [mutation for name in sorted(set(http.reserved_headers)) for mutation in _without(name)]
    if http.side is not Side.GATEWAY:
        # At the edge Envoy does so by itself.
        mutations.append(mutation_rules_v3.HeaderMutation(remove=_ORIGINAL_PATH))
    if not mutations:
        return []
    config = header_mutation_http_v3.HeaderMutation(mutations=mutations)
    return [
        core_v3.TypedExtensionConfig(
            name="envoy.http.early_header_mutation.header_mutation", typed_config=any_of(config)
        )
    ]


def _without(name: str) -> list[Any]:
    """Takes away ``name``, and what a CGI or WSGI program cannot tell from it: each hyphen may be an underscore."""
    first, *others = name.split("-")
    if len(others) < 2:
        return [
            mutation_rules_v3.HeaderMutation(remove=alike)
            for alike in dict.fromkeys((name, "_".join((first, *others))))
        ]
    alike = matcher_v3.RegexMatcher(regex="[-_]".join(re.escape(part) for part in (first, *others)))
    taken = mutation_rules_v3.HeaderMutation.RemoveOnMatch(key_matcher=matcher_v3.StringMatcher(safe_regex=alike))
    return [mutation_rules_v3.HeaderMutation(remove_on_match=taken)]
