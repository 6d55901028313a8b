"""Istio's standard metrics, counted by stock Envoy: an access logger that writes statistics instead of lines.

Every label is a constant of this proxy, or comes from the handshake, from the metadata of the cluster and endpoint
that took the request, or from a small set of Envoy's own words: nothing that a client chooses. What Envoy cannot know
at the called side (of the caller, more than its identity) is added where metrics are asked for: ``control/scrape.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    accesslog_v3,
    data_accesslog_v3,
    protobuf,
    stat_inputs_v3,
    stats_access_log_v3,
    transform_stat_v3,
    type_v3,
    xds_core_v3,
    xds_matcher_v3,
)
from isthmus.filters.peer import PEER_STATE
from isthmus.model.metric import (
    DENIED,
    HTTP_METRICS,
    REQUEST_BYTES,
    REQUEST_DURATION,
    RESPONSE_BYTES,
    TCP_CLOSED,
    TCP_METRICS,
    TCP_OPENED,
    TCP_RECEIVED,
    TCP_SENT,
    Metric,
    MetricKind,
)
from isthmus.model.telemetry import Mode, Telemetry, metrics_of
from isthmus.xds.context import Context
from isthmus.xds.metadata import METADATA
from isthmus.xds.outcome import went_otherwise
from isthmus.xds.reason import DENIED_CODE

UNKNOWN = "unknown"

_Config = stats_access_log_v3.Config
_MOST_SERIES = 2000
"""Of one metric at one port; what comes after is counted in ``server.stats_overflow_*`` alone."""
_VALUES = {
    REQUEST_DURATION: ("Milliseconds", "%DURATION%"),
    REQUEST_BYTES: ("Bytes", "%BYTES_RECEIVED%"),
    RESPONSE_BYTES: ("Bytes", "%BYTES_SENT%"),
}
_AMOUNTS = {TCP_SENT: "%BYTES_SENT%", TCP_RECEIVED: "%BYTES_RECEIVED%"}


def build_http_stats(context: Context, applied: Iterable[Telemetry], mode: Mode) -> tuple[Any, ...]:
    """The logger of one connection manager; none if every metric is turned off."""
    labels = {**_labels(context, mode), "response_code": "%RESPONSE_CODE%"}
    config = _config(HTTP_METRICS, labels, tuple(applied), mode)
    return () if config is None else (_logger(config),)


def build_denied_stats(context: Context, hop: str) -> tuple[Any, ...]:
    """The logger that counts what one connection manager refuses; none for a program's own calls.

    A request that went well does not reach it.
    """
    if hop == "outbound":
        return ()
    known = _labels(context, Mode.CLIENT if hop == "gateway" else Mode.SERVER)
    tags = _tags({name: known[name] for name in DENIED.labels if name in known}, {})
    # What has no reason was not refused: it is counted nowhere.
    tags.append(_Config.Tag(name="reason", value_format=f"%CEL({DENIED_CODE})%", rules=_drop_without_value()))
    built = _logger(
        _Config(
            stats_scope=type_v3.Scope(prefix="", max_counters=protobuf.UInt32Value(value=_MOST_SERIES)),
            counters=[
                _Config.Counter(
                    stat=_Config.Stat(name=DENIED.name, tags=tags), value_fixed=protobuf.UInt64Value(value=1)
                )
            ],
        )
    )
    built.filter.CopyFrom(went_otherwise())
    return (built,)


def _drop_without_value() -> Any:
    """The rules of a label: without a value of it there is no series."""
    drop = transform_stat_v3.TransformStat(drop_stat=transform_stat_v3.TransformStat.DropStat())
    matcher = xds_matcher_v3.Matcher
    extension = xds_core_v3.TypedExtensionConfig
    single = matcher.MatcherList.Predicate.SinglePredicate(
        input=extension(name="value", typed_config=any_of(stat_inputs_v3.StatTagValueInput())),
        value_match=xds_matcher_v3.StringMatcher(exact=""),
    )
    entry = matcher.MatcherList.FieldMatcher(
        predicate=matcher.MatcherList.Predicate(single_predicate=single),
        on_match=matcher.OnMatch(action=extension(name="drop", typed_config=any_of(drop))),
    )
    return matcher(matcher_list=matcher.MatcherList(matchers=[entry]))


def build_tcp_stats(context: Context, applied: Iterable[Telemetry], mode: Mode) -> tuple[Any, ...]:
    """The loggers of one TCP proxy: what is counted when it reaches its destination, and what at the end."""
    rules = tuple(applied)
    labels = {**_labels(context, mode), "request_protocol": "tcp"}
    found = []
    for kind, metrics in (("TcpUpstreamConnected", (TCP_OPENED,)), ("TcpConnectionEnd", _AT_END)):
        config = _config(metrics, labels, rules, mode)
        if config is not None:
            built = _logger(config)
            built.filter.log_type_filter.types.append(data_accesslog_v3.AccessLogType.Value(kind))
            found.append(built)
    return tuple(found)


_AT_END = (TCP_CLOSED, TCP_SENT, TCP_RECEIVED)


def _labels(context: Context, mode: Mode) -> dict[str, str]:
    """By label: a constant or a format string. An empty value is ``unknown`` to whoever reads."""
    if mode is Mode.CLIENT:
        return {**_source(context), **_towards(), **_ENVOYS}
    return {**_from(), **_destination(context), **_ENVOYS}


_ENVOYS = {"response_flags": "%RESPONSE_FLAGS%"}


def _source(context: Context) -> dict[str, str]:
    proxy = context.proxy
    return {
        "reporter": "source",
        "source_workload": proxy.name,
        "source_workload_namespace": proxy.namespace,
        "source_principal": proxy.identity.uri,
        "source_app": proxy.labels.get("app", UNKNOWN),
        "source_version": proxy.labels.get("version", UNKNOWN),
    }


def _towards() -> dict[str, str]:
    """As the cluster and the endpoint that took it say."""
    return {
        "destination_workload": _endpoint("workload"),
        "destination_workload_namespace": _endpoint("namespace"),
        "destination_principal": "%UPSTREAM_PEER_URI_SAN%",
        "destination_app": _endpoint("app"),
        "destination_version": _endpoint("version"),
        "destination_service": _cluster("host"),
        "destination_service_name": _cluster("name"),
        "destination_service_namespace": _cluster("namespace"),
        "request_protocol": _cluster("protocol"),
        "connection_security_policy": UNKNOWN,
    }


def _endpoint(key: str) -> str:
    return f"%UPSTREAM_METADATA({METADATA}:{key})%"


def _cluster(key: str) -> str:
    return f"%CLUSTER_METADATA({METADATA}:{key})%"


def _from() -> dict[str, str]:
    return {"reporter": "destination", "source_principal": f"%FILTER_STATE({PEER_STATE}:PLAIN)%"}


def _destination(context: Context) -> dict[str, str]:
    """This proxy's own workload."""
    proxy = context.proxy
    return {
        "destination_workload": proxy.name,
        "destination_workload_namespace": proxy.namespace,
        "destination_principal": f"%CEL(connection.mtls ? '{proxy.identity.uri}' : '')%",
        "destination_app": proxy.labels.get("app", UNKNOWN),
        "destination_version": proxy.labels.get("version", UNKNOWN),
        "destination_service": _cluster("host"),
        "destination_service_name": _cluster("name"),
        "destination_service_namespace": _cluster("namespace"),
        "request_protocol": _cluster("protocol"),
        "connection_security_policy": "%CEL(connection.mtls ? 'mutual_tls' : 'none')%",
    }


def _config(metrics: Iterable[Metric], labels: Mapping[str, str], rules: tuple[Telemetry, ...], mode: Mode) -> Any:
    """None if all of ``metrics`` are turned off."""
    built = _Config(
        stats_scope=type_v3.Scope(
            # A shared scope would keep counts over a changed listener, and crashes Envoy 1.39.3 as it validates.
            prefix="",
            max_counters=protobuf.UInt32Value(value=_MOST_SERIES * len(TCP_METRICS)),
            max_histograms=protobuf.UInt32Value(value=_MOST_SERIES * len(HTTP_METRICS)),
        )
    )
    for metric in metrics:
        settings = metrics_of(rules, metric.selector, mode)
        if settings.disabled:
            continue
        stat = _Config.Stat(name=metric.name, tags=_tags(labels, settings.tags or {}))
        if metric.kind is MetricKind.HISTOGRAM:
            unit, value = _VALUES[metric]
            built.histograms.append(
                _Config.Histogram(stat=stat, unit=_Config.Histogram.Unit.Value(unit), value_format=value)
            )
        elif metric in _AMOUNTS:
            built.counters.append(_Config.Counter(stat=stat, value_format=_AMOUNTS[metric]))
        else:
            built.counters.append(_Config.Counter(stat=stat, value_fixed=protobuf.UInt64Value(value=1)))
    return built if built.counters or built.histograms else None


def _tags(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> list[Any]:
    """The labels with a Telemetry's changes: an expression is CEL, None takes the label away."""
    wanted: dict[str, str] = dict(labels)
    for label, change in changes.items():
        if change is None:
            wanted.pop(label, None)
        else:
            wanted[label] = f"%CEL({change})%"
    return [_Config.Tag(name=name, value_format=value) for name, value in wanted.items()]


def _logger(config: Any) -> Any:
    return accesslog_v3.AccessLog(name="envoy.access_loggers.stats", typed_config=any_of(config))
