"""What is observed, and where it is sent: Istio's Telemetry resources and the providers of the mesh configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.selector import Scope

DEFAULT_SAMPLING = 1.0
"""Percent of the requests without an earlier decision that are traced (Istio's own default)."""
OWN_LOG = "envoy"
"""The provider that every mesh has (as Istio's): the access log of Isthmus itself."""
STANDARD_OUTPUT = "/dev/stdout"
"""Where that log is written; the supervisor keeps it in a file for each proxy."""
PROMETHEUS = "prometheus"
"""The other one: metrics that are asked for."""


class Mode(Enum):
    """Istio's WorkloadMode. A gateway is a client."""

    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"
    CLIENT = "CLIENT"
    SERVER = "SERVER"

    def covers(self, other: Mode) -> bool:
        return self in (Mode.CLIENT_AND_SERVER, other)


@dataclass(frozen=True, slots=True)
class OpenTelemetry:
    """An OTLP receiver. ``path``: over HTTP, to this path; None: over gRPC. ``headers`` go with every export."""

    name: str
    host: str
    """A service's full host name."""
    port: int
    origin: Origin
    path: str | None = None
    timeout: timedelta | None = None
    """Of an export over HTTP; Envoy gives up on none over gRPC."""
    headers: tuple[tuple[str, str], ...] = ()
    max_tag_length: int | None = None
    """Of the path in a span; Envoy's own limit is 256."""
    environment: bool = False
    """Whether ``OTEL_RESOURCE_ATTRIBUTES`` of the proxy's environment is added."""


@dataclass(frozen=True, slots=True)
class FileLog:
    """An access log of one's own: ``text`` with its line end, or ``labels`` as JSON; neither: Istio's own text."""

    name: str
    path: str
    origin: Origin
    text: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    omit_empty: bool = False


@dataclass(frozen=True, slots=True)
class Prometheus:
    name: str
    origin: Origin


Provider = OpenTelemetry | FileLog | Prometheus


class TagSource(Enum):
    LITERAL = "literal"
    ENVIRONMENT = "environment"
    HEADER = "header"
    FORMATTER = "formatter"


@dataclass(frozen=True, slots=True)
class CustomTag:
    """``value``: the text, the variable's or header's name, or a format string. ``default`` where there is none."""

    name: str
    source: TagSource
    value: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class TracingRule:
    """One entry of ``tracing``; None: as the wider rule says."""

    mode: Mode = Mode.CLIENT_AND_SERVER
    provider: str | None = None
    sampling: float | None = None
    disabled: bool | None = None
    custom_tags: tuple[CustomTag, ...] | None = None
    no_context_propagation: bool | None = None


@dataclass(frozen=True, slots=True)
class LoggingRule:
    """One entry of ``accessLogging``. ``providers`` empty: those of the wider rule. ``filter``: CEL."""

    mode: Mode = Mode.CLIENT_AND_SERVER
    providers: tuple[str, ...] = ()
    disabled: bool = False
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class TagChange:
    """``value``: a CEL expression; None removes the label."""

    label: str
    value: str | None


@dataclass(frozen=True, slots=True)
class MetricsOverride:
    """``metric`` is Istio's selector (``REQUEST_COUNT``); None: all of them."""

    metric: str | None = None
    mode: Mode = Mode.CLIENT_AND_SERVER
    disabled: bool | None = None
    tags: tuple[TagChange, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsRule:
    providers: tuple[str, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One resource. ``scope`` names its own namespace, whichever that is; see :func:`applicable`."""

    name: str
    namespace: str
    scope: Scope
    origin: Origin
    tracing: tuple[TracingRule, ...] = ()
    logging: tuple[LoggingRule, ...] = ()
    metrics: tuple[MetricsRule, ...] = ()


@dataclass(frozen=True, slots=True)
class TelemetryDefaults:
    """What the mesh configuration says where no Telemetry does."""

    tracing: tuple[str, ...] = ()
    """Names of providers (``defaultProviders``); only the first counts."""
    logging: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    sampling: float = DEFAULT_SAMPLING
    custom_tags: tuple[CustomTag, ...] = ()
    max_path_length: int | None = None
    file_log: FileLog | None = None
    """``accessLogFile``: beside the log of Isthmus, while no Telemetry speaks of logs."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """What holds at one side of one proxy."""

    provider: str
    sampling: float
    custom_tags: tuple[CustomTag, ...]
    no_context_propagation: bool = False


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """What is kept of one metric: ``None`` in ``tags`` takes a label away, text is a CEL expression."""

    disabled: bool = False
    tags: Mapping[str, str | None] | None = None


def applicable(
    telemetries: Iterable[Telemetry], root_namespace: str, namespaces: Iterable[str], labels: Mapping[str, str]
) -> tuple[Telemetry, ...]:
    """Those in force for a proxy, widest first: the root namespace's, its namespace's, its own; of each the oldest.

    Source: istio/istio pilot/pkg/model/telemetry.go, applicableTelemetries.
    """
    known = tuple(telemetries)
    own = tuple(dict.fromkeys(namespaces))
    wide = [one for one in known if one.scope.whole_namespace]
    found = [next((one for one in wide if one.namespace == root_namespace), None)]
    found.append(next((one for one in wide if one.namespace in own and one.namespace != root_namespace), None))
    narrow = (one for one in known if not one.scope.whole_namespace)
    found.append(next((one for one in narrow if any(one.scope.selects(name, labels) for name in own)), None))
    return tuple(one for one in found if one is not None)


def tracing_of(applied: Iterable[Telemetry], mode: Mode, defaults: TelemetryDefaults) -> Tracing | None:
    """None: no spans, and nothing done to the context that requests carry."""
    rule = TracingRule(provider=defaults.tracing[0] if defaults.tracing else None)
    for one in applied:
        for written in one.tracing:
            if written.mode.covers(mode):
                rule = _over(rule, written)
    if rule.provider is None or rule.disabled:
        return None
    return Tracing(
        rule.provider,
        defaults.sampling if rule.sampling is None else rule.sampling,
        defaults.custom_tags if rule.custom_tags is None else rule.custom_tags,
        bool(rule.no_context_propagation),
    )


def _over(wider: TracingRule, rule: TracingRule) -> TracingRule:
    names = ("provider", "sampling", "disabled", "custom_tags", "no_context_propagation")
    return replace(wider, **{name: value for name in names if (value := getattr(rule, name)) is not None})


def logging_of(
    applied: Iterable[Telemetry], mode: Mode, defaults: TelemetryDefaults
) -> Mapping[str, str | None] | None:
    """The providers that log, each with its filter; None: nothing speaks of logs.

    Source: istio/istio pilot/pkg/model/telemetry.go, mergeLogs: the narrowest resource that names providers decides
    which there are; entry by entry they are then turned on and off. A rule that names none speaks of those before it.
    """
    levels = [one.logging for one in applied if one.logging]
    parents = defaults.logging
    if not levels:
        return dict.fromkeys(parents) if parents else None
    in_scope = set(parents)
    filters: dict[str, str | None] = {}
    for rules in levels:
        named = {name for rule in rules for name in rule.providers}
        filters.update({name: rule.filter for rule in rules for name in rule.providers})
        in_scope = named or in_scope
    # Without any name the access log of Isthmus is meant: there is no other.
    in_scope = in_scope or {OWN_LOG}
    parents = parents or (OWN_LOG,)
    # Of a side that no entry speaks of, the log stays (in Istio it would end): it is where refusals are explained.
    found: dict[str, str | None] = {name: None for name in parents if name in in_scope}
    for rule in (rule for rules in levels for rule in rules):
        parents = rule.providers or parents
        for name in parents:
            if name in in_scope and rule.mode.covers(mode):
                if rule.disabled:
                    found.pop(name, None)
                else:
                    found[name] = rule.filter if not rule.providers else filters[name]
    return found


def metrics_of(applied: Iterable[Telemetry], metric: str, mode: Mode) -> MetricSettings:
    """What the overrides make of one metric, applied in order, widest first."""
    disabled, tags = False, dict[str, str | None]()
    for override in _overrides(applied):
        if override.metric in (None, metric) and override.mode.covers(mode):
            disabled = disabled if override.disabled is None else override.disabled
            tags.update({change.label: change.value for change in override.tags})
    return MetricSettings(disabled, tags)


def _overrides(applied: Iterable[Telemetry]) -> Iterator[MetricsOverride]:
    for one in applied:
        for rule in one.metrics:
            yield from rule.overrides


def metrics_providers(applied: Iterable[Telemetry], defaults: TelemetryDefaults) -> tuple[str, ...]:
    """Where metrics go: the narrowest rule that names providers decides, else the mesh's default."""
    named = defaults.metrics
    for one in applied:
        for rule in one.metrics:
            named = rule.providers or named
    return named
