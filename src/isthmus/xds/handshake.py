"""What a listener tells of its TLS handshakes, and how it refuses who is shut out.

A connection is logged at its end. It failed if TLS was to be spoken and the handshake left no trace of its end: the
state that ``xds.listener.peer_filters`` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    accesslog_v3,
    core_v3,
    direct_response_v3,
    grpc_access_log_v3,
    listener_v3,
    protobuf,
    stat_inputs_v3,
    stats_access_log_v3,
    tracing_type_v3,
    transform_stat_v3,
    type_v3,
    xds_core_v3,
    xds_matcher_v3,
)
from isthmus.filters.ca_peer import CA_PEER
from isthmus.filters.peer import AMBIGUOUS_PEER, HANDSHAKE_STATE
from isthmus.model.handshake import REASONS, Reason
from isthmus.model.metric import HANDSHAKE_DURATION, HANDSHAKE_FAILURES, SHUT_OUT_CONNECTIONS, Metric
from isthmus.xds.access_log import filtered
from isthmus.xds.bootstrap import XDS_CLUSTER
from isthmus.xds.secret import grpc_service

SHUT_OUT = "shut_out"
"""What the names of the chains begin with that take who is shut out."""
TELLING = "envoy.access_loggers.tcp_grpc"
"""The access logger that tells the control plane."""

_Config = stats_access_log_v3.Config
_DONE = f"'{HANDSHAKE_STATE}' in filter_state"
_CLOSED = " || ".join(f"connection.termination_details.contains('{name}')" for name in (AMBIGUOUS_PEER, CA_PEER))
"""Handshakes that Envoy finds good, and whose certificates are no client's all the same."""
_FAILED = f"(!({_DONE}) && (connection.tls_version != '' || xds.filter_chain_name == '')) || {_CLOSED}"
_REFUSED = f"xds.filter_chain_name.startsWith('{SHUT_OUT}')"
_DETAILS = "%DOWNSTREAM_LOCAL_CLOSE_REASON% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%"
_TEXT = f"%DOWNSTREAM_TRANSPORT_FAILURE_REASON% {_DETAILS}"
_TAGS: Mapping[str, str] = {
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "fingerprint": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
    "sans": ",".join(f"%DOWNSTREAM_PEER_{kind}_SAN%" for kind in ("URI", "DNS", "EMAIL", "IP")),
    "details": _DETAILS,
}
"""What an entry's own fields do not have (of SANs: all but URIs); ``isthmus.handshake.failure`` reads them."""
_MOST_SERIES = 64
_TELLING_INTERVAL = timedelta(milliseconds=200)


def handshake_logs(listener: str) -> tuple[Any, ...]:
    """For a listener with a chain that ends TLS: failures told and counted by reason, durations, who was refused."""
    reason = _Config.Tag(name="reason", value_format=_TEXT, rules=_reasons())
    duration = _Config.Histogram(
        stat=_stat(HANDSHAKE_DURATION, listener),
        unit=_Config.Histogram.Unit.Value("Unspecified"),
        # Whole milliseconds, from the connection's beginning: Envoy has no finer time of a client's handshake.
        value_format="%DOWNSTREAM_HANDSHAKE_DURATION%",
    )
    return (
        filtered(_telling(listener), _FAILED),
        filtered(_counting(_counter(HANDSHAKE_FAILURES, listener, reason)), _FAILED),
        filtered(_counting(duration), _DONE),
        # There from the start: a listener that changes in more than its chains is replaced, its connections with it.
        filtered(_counting(_counter(SHUT_OUT_CONNECTIONS, listener)), _REFUSED),
    )


def build_refusal() -> Any:
    """The filter that closes a connection before anything is read of it, its handshake included."""
    return listener_v3.Filter(
        name="envoy.filters.network.direct_response", typed_config=any_of(direct_response_v3.Config())
    )


def _telling(listener: str) -> Any:
    tags = [tracing_type_v3.CustomTag(tag=name, value=value) for name, value in _TAGS.items()]
    config = grpc_access_log_v3.TcpGrpcAccessLogConfig(
        common_config=grpc_access_log_v3.CommonGrpcAccessLogConfig(
            log_name=listener,
            grpc_service=grpc_service(XDS_CLUSTER),
            transport_api_version=core_v3.ApiVersion.Value("V3"),
            buffer_flush_interval=duration(_TELLING_INTERVAL),
            custom_tags=tags,
        )
    )
    return accesslog_v3.AccessLog(name=TELLING, typed_config=any_of(config))


def _counting(stat: Any) -> Any:
    config = _Config(
        stats_scope=type_v3.Scope(
            prefix="",
            max_counters=protobuf.UInt32Value(value=_MOST_SERIES),
            max_histograms=protobuf.UInt32Value(value=_MOST_SERIES),
        )
    )
    (config.histograms if isinstance(stat, _Config.Histogram) else config.counters).append(stat)
    return accesslog_v3.AccessLog(name="envoy.access_loggers.stats", typed_config=any_of(config))


def _counter(metric: Metric, listener: str, *tags: Any) -> Any:
    return _Config.Counter(stat=_stat(metric, listener, *tags), value_fixed=protobuf.UInt64Value(value=1))


def _stat(metric: Metric, listener: str, *tags: Any) -> Any:
    return _Config.Stat(name=metric.name, tags=[_Config.Tag(name="listener", value_format=listener), *tags])


def _reasons() -> Any:
    """Envoy's words to our codes: a label of few values, whatever clients send."""
    *known, last = REASONS
    return xds_matcher_v3.Matcher(
        matcher_list=xds_matcher_v3.Matcher.MatcherList(
            matchers=[_matcher(reason, word) for reason in known for word in reason.words]
        ),
        on_no_match=_become(last),
    )


def _matcher(reason: Reason, word: str) -> Any:
    listed = xds_matcher_v3.Matcher.MatcherList
    predicate = listed.Predicate.SinglePredicate(
        input=_extension("tag", stat_inputs_v3.StatTagValueInput()),
        value_match=xds_matcher_v3.StringMatcher(contains=word),
    )
    return listed.FieldMatcher(predicate=listed.Predicate(single_predicate=predicate), on_match=_become(reason))


def _become(reason: Reason) -> Any:
    update = transform_stat_v3.TransformStat.UpdateTag(new_tag_value=reason.code)
    action = _extension("reason", transform_stat_v3.TransformStat(update_tag=update))
    return xds_matcher_v3.Matcher.OnMatch(action=action)


def _extension(name: str, message: Any) -> Any:
    return xds_core_v3.TypedExtensionConfig(name=name, typed_config=any_of(message))
