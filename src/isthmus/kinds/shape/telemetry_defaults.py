"""What Istio's MeshConfig says of telemetry for those of whom no Telemetry speaks.

Source: istio/api mesh/v1alpha1/config.proto (DefaultProviders, accessLogFile ...) and proxy.proto (Tracing).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

from isthmus.config.decode import Reader, checked, integer, later, list_of, number, optional, record, text
from isthmus.config.node import Node
from isthmus.kinds.shape.telemetry_provider import file_problem, format_problem, tags_reader
from isthmus.model.telemetry import CustomTag


@dataclass(frozen=True, slots=True)
class DefaultProviders:
    at: Node
    tracing: tuple[str, ...]
    metrics: tuple[str, ...]
    access_logging: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TracingDefaults:
    at: Node
    sampling: float | None
    max_path_tag_length: int | None
    custom_tags: tuple[CustomTag, ...]


class LogEncoding(Enum):
    TEXT = "TEXT"
    JSON = "JSON"


def _length_problem(length: int) -> str | None:
    return None if length > 0 else "a number above zero is needed"


def _log_file_problem(path: str) -> str | None:
    return file_problem(path) if path else None


def _percent_problem(share: float) -> str | None:
    return None if 0 <= share <= 100 else "a percentage is between 0 and 100"


def json_labels(layout: str | None) -> tuple[tuple[str, str], ...] | None:
    """The fields of a log in JSON; None: ``layout`` is no flat JSON object of strings."""
    try:
        written = json.loads(layout or "{}")
    except ValueError:
        return None
    if not isinstance(written, dict) or not all(isinstance(value, str) for value in written.values()):
        return None
    return tuple(written.items())


def log_format_problem(layout: str | None, encoding: LogEncoding) -> str | None:
    if not layout:
        return None
    if encoding is LogEncoding.JSON and json_labels(layout) is None:
        return "with accessLogEncoding JSON the format is a JSON object of strings"
    return format_problem(layout)


percent: Reader[float] = checked(number, _percent_problem)
log_file: Reader[str] = checked(text, _log_file_problem)
_NAMES = list_of(text)
TRACING: Reader[TracingDefaults] = record(
    TracingDefaults,
    optional("sampling", percent, note="percent; 1 unless said"),
    optional("maxPathTagLength", checked(integer, _length_problem), note="of the URL in a span"),
    optional("customTags", tags_reader(formatter=False), ()),
    *map(later, ("zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent", "tlsSettings", "enableIstioTags")),
)
DEFAULT_PROVIDERS: Reader[DefaultProviders] = record(
    DefaultProviders,
    optional("tracing", _NAMES, (), note="the first counts"),
    optional("metrics", _NAMES, ()),
    optional("accessLogging", _NAMES, ()),
)
