from __future__ import annotations

from typing import Any

import pytest

from isthmus.envoy_api import to_json, unpack
from isthmus.model.telemetry import CustomTag, TagSource, Tracing
from isthmus.xds.tracing import build_tracing

from .making import compiled, context_of, entry, mesh_config, service
from .test_observe import OTEL

TAGS = (
    CustomTag("l", TagSource.LITERAL, "x"),
    CustomTag("e", TagSource.ENVIRONMENT, "ZONE", "none"),
    CustomTag("h", TagSource.HEADER, "x-h", "nothing"),
    CustomTag("f", TagSource.FORMATTER, "%PROTOCOL%"),
)


def tracing(sampling: float = 1.0, more: str = "", tags: tuple[CustomTag, ...] = (), **wanted: Any) -> Any:
    config = f"""
        extensionProviders:
        - name: otel
          opentelemetry: {{service: otel.example.com, port: 4317{more}}}
        - name: prom
          prometheus: {{}}
    """
    mesh = compiled(service("orders"), entry("orders-1"), OTEL, mesh_config(config)).mesh
    return build_tracing(
        context_of(mesh, "orders-1"), Tracing("otel", sampling, tags, **wanted), {"deny_policy": "%X%"}
    )


def tracer(built: Any) -> Any:
    return unpack(built.provider.typed_config)


@pytest.mark.parametrize(("percent", "numerator"), [(1.0, 10_000), (0.0, 0), (100.0, 1_000_000), (0.01, 100)])
def test_the_caller_decides_else_a_share(percent: float, numerator: int) -> None:
    built = tracing(percent)
    assert built.random_sampling.value == built.client_sampling.value == built.overall_sampling.value == 100
    sampler = to_json(tracer(built).sampler)["typed_config"]["wrapped_sampler"]["typed_config"]["sampling_percentage"]
    assert sampler.get("numerator", 0) == numerator
    assert sampler["denominator"] == "MILLION"


def test_custom_tags() -> None:
    found = {tag["tag"]: tag for tag in to_json(tracing(tags=TAGS))["custom_tags"]}
    assert found["l"]["literal"] == {"value": "x"}
    assert found["e"]["environment"] == {"name": "ZONE", "default_value": "none"}
    assert found["h"]["request_header"] == {"name": "x-h", "default_value": "nothing"}
    assert found["f"]["value"] == "%PROTOCOL%"
    assert found["isthmus.deny_policy"]["value"] == "%X%"


def test_a_tag_of_ones_own_takes_the_place_of_ours() -> None:
    built = tracing(tags=(CustomTag("http.route", TagSource.LITERAL, "mine"),))
    assert [tag.literal.value for tag in built.custom_tags if tag.tag == "http.route"] == ["mine"]


def test_no_tag_tells_the_query() -> None:
    for tag in tracing().custom_tags:
        assert "REQ(:PATH)" not in tag.value
        assert "PATH(" not in tag.value or "PATH(NQ:" in tag.value


def test_over_http() -> None:
    built = tracer(tracing(more=", http: {path: /v1/traces, headers: [{name: X-Key, value: k}]}")).http_service
    assert built.http_uri.uri == "http://otel.example.com:4317/v1/traces"
    assert built.http_uri.cluster == "outbound|4317||otel.example.com"
    assert [(one.header.key, one.header.value) for one in built.request_headers_to_add] == [("x-key", "k")]


def test_over_grpc() -> None:
    built = tracer(tracing(more=", grpc: {initialMetadata: [{name: x-key, value: k}]}"))
    assert [(one.key, one.value) for one in built.grpc_service.initial_metadata] == [("x-key", "k")]
    assert [one.name.rpartition(".")[2] for one in built.resource_detectors] == ["static_config"]
    detected = tracer(tracing(more=", resourceDetectors: {environment: {}}")).resource_detectors
    assert [one.name.rpartition(".")[2] for one in detected] == ["static_config", "environment"]


def test_context_that_goes_no_further() -> None:
    assert tracing(no_context_propagation=True).no_context_propagation
    assert not tracing().no_context_propagation


def test_a_provider_of_something_else_traces_nothing() -> None:
    mesh = compiled(
        service("orders"), entry("orders-1"), mesh_config("extensionProviders: [{name: p, prometheus: {}}]")
    )
    assert build_tracing(context_of(mesh.mesh, "orders-1"), Tracing("p", 1.0, ()), None) is None
