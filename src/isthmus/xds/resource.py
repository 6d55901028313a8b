"""What exporters of telemetry say of themselves: OpenTelemetry's resource attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, otel_resource_v3

_DETECTORS = "envoy.tracers.opentelemetry.resource_detectors"


def resource_detectors(attributes: Mapping[str, str], *, environment: bool = False) -> list[Any]:
    """What exporters say of themselves: ``attributes``, and what ``OTEL_RESOURCE_ATTRIBUTES`` says if asked for."""
    found = [_detector("static_config", otel_resource_v3.StaticConfigResourceDetectorConfig(attributes=attributes))]
    if environment:
        found.append(_detector("environment", otel_resource_v3.EnvironmentResourceDetectorConfig()))
    return found


def _detector(name: str, config: Any) -> Any:
    return core_v3.TypedExtensionConfig(name=f"{_DETECTORS}.{name}", typed_config=any_of(config))
