"""The providers of telemetry in Istio's MeshConfig, and the custom tags that it shares with the Telemetry kind.

Source: istio/api mesh/v1alpha1/config.proto (ExtensionProvider) and telemetry/v1alpha1/telemetry.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from isthmus.config.decode import (
    Reader,
    boolean,
    checked,
    fail,
    integer,
    later,
    list_of,
    map_of,
    one_of,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Code, Located, Origin, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import hint, name_problem
from isthmus.kinds.shape.support import warn_unsupported
from isthmus.model.settings import Settings
from isthmus.model.telemetry import (
    OWN_LOG,
    PROMETHEUS,
    CustomTag,
    FileLog,
    OpenTelemetry,
    Prometheus,
    Provider,
    TagSource,
)

UNKNOWN_PROVIDER = Code(
    "ISM2190",
    Severity.ERROR,
    "Unknown telemetry provider",
    'no provider of {what} "{name}" in the mesh configuration{hint}: nothing is sent there',
    what="A Telemetry, or defaultProviders, names a provider that extensionProviders does not have, or one of a sort "
    "that does not take what is sent.",
    why="What it speaks of would be observed by nobody.",
    example="tracing:\n  - providers: [{name: otel}]   # extensionProviders has no otel",
    fix="Declare the provider under extensionProviders in the ConfigMap istio, or correct the name.",
    stops=False,
)


@dataclass(frozen=True, slots=True)
class _Header:
    at: Node
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class _Http:
    at: Node
    path: str
    timeout: timedelta | None
    headers: tuple[_Header, ...]


@dataclass(frozen=True, slots=True)
class _Grpc:
    at: Node
    initial_metadata: tuple[_Header, ...]


@dataclass(frozen=True, slots=True)
class _Nothing:
    """A message without fields: that it is there says everything."""

    at: Node


@dataclass(frozen=True, slots=True)
class _Detectors:
    at: Node
    environment: _Nothing | None


@dataclass(frozen=True, slots=True)
class OpenTelemetrySpec:
    at: Node
    service: str
    port: int
    max_tag_length: int | None
    http: _Http | None
    grpc: _Grpc | None
    resource_detectors: _Detectors | None


@dataclass(frozen=True, slots=True)
class _Format:
    at: Node
    text: str | None
    labels: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class FileLogSpec:
    at: Node
    path: str
    log_format: _Format | None
    omit_empty_values: bool


PrometheusSpec = _Nothing

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _header_problem(name: str) -> str | None:
    return None if _HEADER_NAME.fullmatch(name) else f'"{name}" is not the name of a header'


def _value_problem(value: str) -> str | None:
    return "a header's value has no line ends" if re.search(r"[\r\n\0]", value) else None


def _path_problem(path: str) -> str | None:
    return None if path.startswith("/") and "?" not in path else f'"{path}" is not a path, which begins with "/"'


def file_problem(path: str) -> str | None:
    return None if path.startswith("/") else f'"{path}" is not an absolute path'


def _service_problem(service: str) -> str | None:
    return name_problem(service.rpartition("/")[2])


def _positive(number: int) -> str | None:
    return None if number > 0 else "a number above zero is needed"


def format_problem(written: str) -> str | None:
    """What Envoy would refuse in a format string, as far as it can be told without knowing every command."""
    if written.replace("%%", "").count("%") % 2:
        return 'a "%" opens a command and closes it, "%%" is one of its own: here one is left over'
    return None


format_string = checked(text, format_problem)
_HEADERS = list_of(
    record(
        _Header,
        required("name", checked(text, _header_problem)),
        required("value", checked(text, _value_problem)),
        later("envName"),
    )
)
OPENTELEMETRY: Reader[OpenTelemetrySpec] = checked(
    record(
        OpenTelemetrySpec,
        required("service", checked(text, _service_problem)),
        required("port", port),
        optional("maxTagLength", checked(integer, _positive), note="of the URL in a span"),
        optional(
            "http",
            record(
                _Http,
                required("path", checked(text, _path_problem)),
                optional("timeout", positive_duration),
                optional("headers", _HEADERS, ()),
            ),
        ),
        optional(
            "grpc",
            record(_Grpc, later("timeout"), optional("initialMetadata", _HEADERS, ())),
        ),
        optional(
            "resourceDetectors",
            record(_Detectors, optional("environment", record(_Nothing)), later("dynatrace")),
        ),
        later("dynatraceSampler"),
    ),
    one_of("http", "grpc"),
)
PROMETHEUS_PROVIDER: Reader[PrometheusSpec] = record(_Nothing)
_FILE_LOG: Reader[FileLogSpec] = record(
    FileLogSpec,
    optional("path", checked(text, file_problem), "/dev/stdout", note="absolute; standard output: the access log"),
    optional(
        "logFormat",
        checked(
            record(_Format, optional("text", format_string), optional("labels", map_of(format_string))),
            one_of("text", "labels"),
        ),
    ),
    optional("omitEmptyValues", boolean, False, note="of text: nothing in the place of a dash"),
)


def _omits(written: FileLogSpec, node: Node, report: Report) -> FileLogSpec:
    if written.omit_empty_values and written.log_format is not None and written.log_format.labels:
        # Envoy 1.39 writes null all the same.
        warn_unsupported(node.at("omitEmptyValues"), "omitEmptyValues", report)
    return written


FILE_LOG: Reader[FileLogSpec] = converted(_FILE_LOG, _omits)


def open_telemetry(name: str, written: OpenTelemetrySpec, host: str, origin: Origin) -> OpenTelemetry:
    """``host``: the full name of ``written.service``."""
    http, grpc = written.http, written.grpc or _Grpc(written.at, ())
    headers = http.headers if http is not None else grpc.initial_metadata
    detectors = written.resource_detectors
    return OpenTelemetry(
        name,
        host,
        written.port,
        origin,
        path=http.path if http is not None else None,
        timeout=http.timeout if http is not None else None,
        headers=tuple((header.name.lower(), header.value) for header in headers),
        max_tag_length=written.max_tag_length,
        environment=detectors is not None and detectors.environment is not None,
    )


def file_log(name: str, written: FileLogSpec, origin: Origin) -> FileLog:
    layout = written.log_format or _Format(written.at, None, None)
    labels = tuple((layout.labels or {}).items())
    return FileLog(name, written.path, origin, layout.text, labels, written.omit_empty_values)


def prometheus(name: str, origin: Origin) -> Prometheus:
    return Prometheus(name, origin)


@dataclass(frozen=True, slots=True)
class _Literal:
    at: Node
    value: str


@dataclass(frozen=True, slots=True)
class _Named:
    at: Node
    name: str
    default_value: str


@dataclass(frozen=True, slots=True)
class _Formatter:
    at: Node
    value: str


@dataclass(frozen=True, slots=True)
class _Tag:
    at: Node
    literal: _Literal | None
    environment: _Named | None
    header: _Named | None
    formatter: _Formatter | None = None


def _tags(written: dict[str, _Tag], node: Node, report: Report) -> tuple[CustomTag, ...]:
    return tuple(_tag(name, tag, report) for name, tag in written.items())


def _tag(name: str, tag: _Tag, report: Report) -> CustomTag:
    if tag.literal is not None:
        return CustomTag(name, TagSource.LITERAL, tag.literal.value)
    if tag.environment is not None:
        return CustomTag(name, TagSource.ENVIRONMENT, tag.environment.name, tag.environment.default_value)
    if tag.header is not None:
        return CustomTag(name, TagSource.HEADER, tag.header.name, tag.header.default_value)
    if tag.formatter is not None:
        return CustomTag(name, TagSource.FORMATTER, tag.formatter.value)
    raise fail(report, tag.at, "a tag needs a value: literal, environment, header or formatter")


_SOURCES = ("literal", "environment", "header", "formatter")
_TAG_FIELDS = (
    optional("literal", record(_Literal, required("value", text))),
    optional("environment", record(_Named, required("name", text), optional("defaultValue", text, ""))),
    optional(
        "header",
        record(_Named, required("name", checked(text, _header_problem)), optional("defaultValue", text, "")),
    ),
)
_FORMATTER = optional("formatter", record(_Formatter, required("value", format_string)))


def tags_reader(*, formatter: bool) -> Reader[tuple[CustomTag, ...]]:
    """``customTags``; MeshConfig has no ``formatter``."""
    fields: Iterable[object] = (*_TAG_FIELDS, _FORMATTER) if formatter else _TAG_FIELDS
    one = checked(record(_Tag, *fields), one_of(*(_SOURCES if formatter else _SOURCES[:-1])))  # type: ignore[arg-type]
    return converted(map_of(one), _tags)


_TAKES: dict[str, tuple[type[Provider], ...]] = {
    "spans": (OpenTelemetry,),
    "logs": (FileLog,),
    "metrics": (Prometheus, OpenTelemetry),
}
_ALWAYS_THERE = {"spans": (), "logs": (OWN_LOG,), "metrics": (PROMETHEUS,)}


def report_unknown_provider(what: str, name: str, at: Located, settings: Settings, report: Report) -> None:
    """ISM2190 unless ``name`` is a provider that takes ``what`` (``spans``, ``logs``, ``metrics``)."""
    fitting = [one.name for one in settings.telemetry_providers if isinstance(one, _TAKES[what])]
    if name not in (*fitting, *_ALWAYS_THERE[what]):
        report.add(UNKNOWN_PROVIDER, at, what=what, name=name, hint=hint(name, fitting))
