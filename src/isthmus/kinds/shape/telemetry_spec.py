"""What a Telemetry says, as it is written. Source: istio.io/api telemetry/v1alpha1/telemetry.proto."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import (
    Reader,
    boolean,
    checked,
    enum_of,
    fail,
    later,
    list_of,
    map_of,
    noted,
    one_of,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.cel import expression
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.selector import Selector, selector
from isthmus.kinds.shape.support import refused
from isthmus.kinds.shape.telemetry_defaults import percent
from isthmus.kinds.shape.telemetry_provider import tags_reader
from isthmus.model.metric import PROXY_METRICS
from isthmus.model.telemetry import (
    CustomTag,
    LoggingRule,
    MetricsOverride,
    MetricsRule,
    Mode,
    TagChange,
    TracingRule,
)


@dataclass(frozen=True, slots=True)
class ProviderRef:
    at: Node
    name: str


@dataclass(frozen=True, slots=True)
class _Match:
    at: Node
    mode: Mode


@dataclass(frozen=True, slots=True)
class _TracingSpec:
    at: Node
    match: _Match | None
    providers: tuple[ProviderRef, ...]
    random_sampling_percentage: float | None
    disable_span_reporting: bool | None
    custom_tags: tuple[CustomTag, ...] | None
    disable_context_propagation: bool | None


@dataclass(frozen=True, slots=True)
class _Filter:
    at: Node
    expression: str


@dataclass(frozen=True, slots=True)
class _LoggingSpec:
    at: Node
    match: _Match | None
    providers: tuple[ProviderRef, ...]
    disabled: bool
    filter: _Filter | None


class _Operation(Enum):
    UPSERT = "UPSERT"
    REMOVE = "REMOVE"


@dataclass(frozen=True, slots=True)
class _TagOverride:
    at: Node
    operation: _Operation
    value: str | None


class _Selected(Enum):
    """Istio's names of metrics; None: all of them."""

    ALL_METRICS = None
    REQUEST_COUNT = "REQUEST_COUNT"
    REQUEST_DURATION = "REQUEST_DURATION"
    REQUEST_SIZE = "REQUEST_SIZE"
    RESPONSE_SIZE = "RESPONSE_SIZE"
    TCP_OPENED_CONNECTIONS = "TCP_OPENED_CONNECTIONS"
    TCP_CLOSED_CONNECTIONS = "TCP_CLOSED_CONNECTIONS"
    TCP_SENT_BYTES = "TCP_SENT_BYTES"
    TCP_RECEIVED_BYTES = "TCP_RECEIVED_BYTES"
    GRPC_REQUEST_MESSAGES = "GRPC_REQUEST_MESSAGES"
    GRPC_RESPONSE_MESSAGES = "GRPC_RESPONSE_MESSAGES"


@dataclass(frozen=True, slots=True)
class _MetricMatch:
    at: Node
    metric: _Selected
    mode: Mode


@dataclass(frozen=True, slots=True)
class _OverrideSpec:
    at: Node
    match: _MetricMatch | None
    disabled: bool | None
    tag_overrides: dict[str, _TagOverride]


@dataclass(frozen=True, slots=True)
class _MetricsSpec:
    at: Node
    providers: tuple[ProviderRef, ...]
    overrides: tuple[_OverrideSpec, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    at: Node
    selector: Selector | None
    tracing: tuple[_TracingSpec, ...]
    metrics: tuple[_MetricsSpec, ...]
    access_logging: tuple[_LoggingSpec, ...]


_OFFERED = {metric.selector for metric in PROXY_METRICS}


def _offered(selected: _Selected, node: Node, report: Report) -> _Selected:
    if selected.value is not None and selected.value not in _OFFERED:
        raise fail(report, node, f"{selected.value}: messages of gRPC streams are not counted")
    return selected


def _needs_value(override: _TagOverride, node: Node, report: Report) -> _TagOverride:
    if override.operation is _Operation.UPSERT and override.value is None:
        raise fail(report, node, "UPSERT needs a value")
    return override


def _no_percent(written: str) -> str | None:
    return 'a "%" cannot stand in an expression for a label' if "%" in written else None


_mode = enum_of(Mode)
_match = record(_Match, optional("mode", _mode, Mode.CLIENT_AND_SERVER))
_providers = list_of(record(ProviderRef, required("name", text)))
_tracing = record(
    _TracingSpec,
    optional("match", _match),
    optional("providers", _providers, (), note="one; of the sort opentelemetry"),
    optional("randomSamplingPercentage", percent, note="of requests without an earlier decision"),
    optional("disableSpanReporting", boolean),
    optional("customTags", tags_reader(formatter=True), note="instead of those of the wider rule"),
    optional("disableContextPropagation", boolean),
    noted("useRequestIdForTraceSampling", "the trace context decides, whatever the request id"),
    later("enableIstioTags"),
)
_logging = record(
    _LoggingSpec,
    optional("match", _match),
    optional("providers", _providers, (), note='"envoy" is the access log of Isthmus'),
    optional("disabled", boolean, False),
    optional("filter", record(_Filter, required("expression", expression, note="CEL over Envoy's attributes"))),
)
_tag_override = converted(
    record(
        _TagOverride,
        optional("operation", enum_of(_Operation), _Operation.UPSERT),
        optional("value", checked(expression, _no_percent), note="CEL over Envoy's attributes"),
    ),
    _needs_value,
)
_metric_match = checked(
    record(
        _MetricMatch,
        optional("metric", converted(enum_of(_Selected), _offered), _Selected.ALL_METRICS),
        later("customMetric"),
        optional("mode", _mode, Mode.CLIENT_AND_SERVER),
    ),
    one_of("metric", "customMetric"),
)
_override = record(
    _OverrideSpec,
    optional("match", _metric_match),
    optional("disabled", boolean),
    optional("tagOverrides", map_of(_tag_override), {}),
)
_metrics = record(
    _MetricsSpec,
    optional("providers", _providers, (), note="of the sorts prometheus and opentelemetry"),
    optional("overrides", list_of(_override), (), note="whoever takes the metrics: a proxy has one set of them"),
    later("reportingInterval"),
)
SPEC: Reader[Spec] = record(
    Spec,
    optional("selector", selector),
    optional("tracing", list_of(_tracing), ()),
    optional("metrics", list_of(_metrics), ()),
    optional("accessLogging", list_of(_logging), ()),
    refused("targetRef", "it speaks of every workload"),
    refused("targetRefs", "it speaks of every workload"),
)


def tracing_rules(spec: Spec) -> tuple[TracingRule, ...]:
    return tuple(
        TracingRule(
            _mode_of(one.match),
            one.providers[0].name if one.providers else None,
            one.random_sampling_percentage,
            one.disable_span_reporting,
            one.custom_tags,
            one.disable_context_propagation,
        )
        for one in spec.tracing
    )


def logging_rules(spec: Spec) -> tuple[LoggingRule, ...]:
    return tuple(
        LoggingRule(
            _mode_of(one.match),
            tuple(provider.name for provider in one.providers),
            one.disabled,
            one.filter.expression if one.filter is not None else None,
        )
        for one in spec.access_logging
    )


def metrics_rules(spec: Spec) -> tuple[MetricsRule, ...]:
    return tuple(
        MetricsRule(tuple(provider.name for provider in one.providers), tuple(map(_override_of, one.overrides)))
        for one in spec.metrics
    )


def _override_of(written: _OverrideSpec) -> MetricsOverride:
    match = written.match
    changes = (
        TagChange(label, None if change.operation is _Operation.REMOVE else change.value)
        for label, change in written.tag_overrides.items()
    )
    return MetricsOverride(
        match.metric.value if match is not None else None,
        match.mode if match is not None else Mode.CLIENT_AND_SERVER,
        written.disabled,
        tuple(changes),
    )


def _mode_of(match: _Match | None) -> Mode:
    return match.mode if match is not None else Mode.CLIENT_AND_SERVER
