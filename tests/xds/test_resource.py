from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.xds.resource import resource_detectors


def test_what_exporters_say_of_themselves() -> None:
    (static,) = resource_detectors({"service.namespace": "shop"})
    config: Any = unpack(static.typed_config)
    assert dict(config.attributes) == {"service.namespace": "shop"}
    assert [one.name for one in resource_detectors({}, environment=True)] == [
        "envoy.tracers.opentelemetry.resource_detectors.static_config",
        "envoy.tracers.opentelemetry.resource_detectors.environment",
    ]
