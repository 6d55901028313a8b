"""Every field of the Telemetry kind, and of the mesh configuration's telemetry, at gateways of real Envoys."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.backend import Backend, Reply
from tests.real.fields import enforces
from tests.real.otlp import Receiver, Span
from tests.real.telemetry import OTEL, mesh_config, receiver_entry, telemetry
from tests.real.traffic import NAMESPACE, Manifest, dump, gateway, routes, server, service, to, workload
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

MESH = "ConfigMap.data.mesh."
PROVIDER = f"{MESH}extensionProviders[]."
OTLP = f"{PROVIDER}opentelemetry."
FILE = f"{PROVIDER}envoyFileAccessLog."
TRACING, LOGGING, METRICS = "Telemetry.spec.tracing[].", "Telemetry.spec.accessLogging[].", "Telemetry.spec.metrics[]."
TAGS, DEFAULT_TAGS = f"{TRACING}customTags.*.", f"{MESH}defaultConfig.tracing.customTags.*."
OVERRIDES = f"{METRICS}overrides[]."
_SECONDS = 60.0
_EDGE = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/%s"
_TEXT = "saw %REQ(X-ID)% [%REQ(X-NOTHING)%]"
_LONG = "/" + "long" * 30


def mode(which: str) -> dict[str, Any]:
    return {"match": {"mode": which}}


def silent(which: str) -> dict[str, Any]:
    """Nothing at one side."""
    return {
        "tracing": [{**mode(which), "disableSpanReporting": True}],
        "accessLogging": [{**mode(which), "providers": [{"name": "envoy"}], "disabled": True}],
        "metrics": [{"overrides": [{"match": {"metric": "ALL_METRICS", "mode": which}, "disabled": True}]}],
    }


TELEMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tagged": {
        "tracing": [
            {
                "customTags": {
                    "literal": {"literal": {"value": "as it is"}},
                    "environment": {"environment": {"name": "TELEMETRY_TEST", "defaultValue": "none"}},
                    "no-environment": {"environment": {"name": "TELEMETRY_NOT_SET", "defaultValue": "none"}},
                    "header": {"header": {"name": "x-tag", "defaultValue": "nothing"}},
                    "formatter": {"formatter": {"value": "%REQ(:METHOD)% by %ROUTE_NAME%"}},
                }
            }
        ],
        "accessLogging": [{"providers": [{"name": "envoy"}], "filter": {"expression": "response.code >= 400"}}],
        "metrics": [
            {
                "overrides": [
                    {
                        "match": {"metric": "REQUEST_COUNT", "mode": "CLIENT"},
                        "tagOverrides": {
                            "response_flags": {"operation": "REMOVE"},
                            "method": {"operation": "UPSERT", "value": "request.method"},
                        },
                    },
                    {"match": {"metric": "REQUEST_DURATION"}, "disabled": True},
                ]
            }
        ],
    },
    "untraced": {"tracing": [{"disableSpanReporting": True}], "accessLogging": [{"disabled": True}]},
    "unsampled": {
        "tracing": [{"randomSamplingPercentage": 0}],
        "accessLogging": [{"providers": [{"name": "text"}]}],
    },
    "over-http": {
        "tracing": [{"providers": [{"name": "otel-http"}]}],
        "accessLogging": [{"providers": [{"name": "labels"}, {"name": "dash"}]}],
        "metrics": [{"providers": [{"name": "otel"}, {"name": "prom"}]}],
    },
    "no-client": silent("CLIENT"),
    "no-server": silent("SERVER"),
    "no-context": {"tracing": [{"disableContextPropagation": True}]},
}


class Mesh:
    """A gateway for each name, with one backend behind all of them."""

    def __init__(self, up: Up, backend: Backend) -> None:
        self.up = up
        self.backend = backend

    def ask(self, name: str, path: str = "/", **headers: str) -> httpx.Response:
        host, port = self.up.gateway(80, name)
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        return httpx.get(f"http://{host}:{port}{path}", headers=sent, trust_env=False, verify=False, timeout=20)

    def log(self, name: str) -> list[dict[str, Any]]:
        return self.up.access_log(f"gateway~{NAMESPACE}~{name}")

    def metrics(self, name: str) -> str:
        http = self.up.ready["control_plane"]["http"]
        answer = httpx.get(
            f"{http}/metrics/proxies/gateway~{NAMESPACE}~{name}", trust_env=False, timeout=30, verify=False
        )
        answer.raise_for_status()
        return answer.text


def running(folder: Path, config: dict[str, Any], receiver: Receiver, *more: Manifest, names: Any) -> Iterator[Mesh]:
    def bad(saw: dict[str, Any]) -> Reply:
        return Reply(status=500 if saw["path"].startswith("/bad") else 200)

    with Backend(reply=bad) as backend:
        documents: list[Manifest] = [mesh_config(config), receiver_entry(receiver), *more]
        for name in names:
            documents.append(gateway(name, server(80)))
            way = {"name": "everything", "route": [to("back")]}
            documents.append(routes(name, ["*"], way, gateways=[name]))
        documents += [service("back"), workload("back-1", backend.port, {"app": "back", "version": "v7"})]
        with Up(folder, {"all.yaml": dump(*documents)}, env={"TELEMETRY_TEST": "set", **_RESOURCE}) as up:
            yield Mesh(up, backend)


_RESOURCE = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, logs: Path) -> Iterator[Mesh]:
    grpc = {"initialMetadata": [{"name": "x-key", "value": "by grpc"}]}
    http = {"path": "/of/mine", "timeout": "7s", "headers": [{"name": "x-key", "value": "by http"}]}
    otel = {
        "service": OTEL,
        "port": receiver.port,
        "grpc": grpc,
        "maxTagLength": 20,
        "resourceDetectors": {"environment": {}},
    }
    config = {
        "extensionProviders": [
            {"name": "otel", "opentelemetry": otel},
            {"name": "otel-http", "opentelemetry": {"service": OTEL, "port": receiver.http_port, "http": http}},
            {
                "name": "text",
                "envoyFileAccessLog": {
                    "path": str(logs / "text"),
                    "logFormat": {"text": _TEXT},
                    "omitEmptyValues": True,
                },
            },
            {"name": "dash", "envoyFileAccessLog": {"path": str(logs / "dash"), "logFormat": {"text": _TEXT}}},
            {
                "name": "labels",
                "envoyFileAccessLog": {
                    "path": str(logs / "labels"),
                    "logFormat": {"labels": {"id": "%REQ(X-ID)%", "nothing": "%REQ(X-NOTHING)%"}},
                },
            },
            {"name": "prom", "prometheus": {}},
        ],
        "defaultProviders": {"tracing": ["otel"], "accessLogging": ["envoy"]},
    }
    some = [telemetry(name, spec, NAMESPACE, {"istio": name}) for name, spec in TELEMETRIES.items() if spec]
    everything = telemetry("mesh", {"tracing": [{"randomSamplingPercentage": 100}]})
    yield from running(tmp_path_factory.mktemp("fields"), config, receiver, everything, *some, names=list(TELEMETRIES))


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, logs: Path) -> Iterator[Mesh]:
    """Without any Telemetry: the mesh configuration alone."""
    tags = {
        "literal": {"literal": {"value": "as it is"}},
        "environment": {"environment": {"name": "TELEMETRY_TEST"}},
        "no-environment": {"environment": {"name": "TELEMETRY_NOT_SET", "defaultValue": "none"}},
        "header": {"header": {"name": "x-tag", "defaultValue": "nothing"}},
    }
    config = {
        "extensionProviders": [{"name": "otel", "opentelemetry": {"service": OTEL, "port": receiver.port}}],
        "defaultProviders": {"tracing": ["otel"]},
        "defaultConfig": {"tracing": {"sampling": 100, "maxPathTagLength": 30, "customTags": tags}},
        "accessLogFile": str(logs / "mesh"),
        "accessLogFormat": '{"id": "%REQ(X-ID)%", "code": "%RESPONSE_CODE%"}',
        "accessLogEncoding": "JSON",
    }
    yield from running(tmp_path_factory.mktemp("legacy"), config, receiver, names=["legacy"])


def span_of(receiver: Receiver, mesh: Mesh, name: str, path: str = "/", **headers: str) -> Span:
    """The span of one request at a gateway."""
    mark = f"/{uuid.uuid4().hex[:8]}"
    assert mesh.ask(name, f"{mark}{path}", **headers).status_code == 200

    def found() -> Span | None:
        here = (span for span in tuple(receiver.spans) if span.service == f"{name}.{NAMESPACE}")
        return next((span for span in here if span.attributes["url.path"].startswith(mark)), None)

    span = eventually(found, _SECONDS)
    assert isinstance(span, Span)
    return span


def none_of(receiver: Receiver, mesh: Mesh, *names: str) -> None:
    """Requests at ``names`` leave no span, while one at the plain gateway that came later does."""
    for name in names:
        assert mesh.ask(name).status_code == 200
    span_of(receiver, mesh, "plain")
    span_of(receiver, mesh, "plain")
    silent = {f"{name}.{NAMESPACE}" for name in names}
    assert not [span for span in receiver.spans if span.service in silent]


@enforces(
    f"{MESH}defaultProviders.tracing",
    f"{TRACING}randomSamplingPercentage",
    f"{TRACING}disableSpanReporting",
    f"{TRACING}match.mode",
    "Telemetry.spec.selector.matchLabels",
)
def test_who_reports_spans(mesh: Mesh, receiver: Receiver) -> None:
    span_of(receiver, mesh, "plain")
    span_of(receiver, mesh, "no-server")
    none_of(receiver, mesh, "untraced", "unsampled", "no-client")
    trace = uuid.uuid4().hex
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    span = span_of(receiver, mesh, "unsampled", traceparent=parent)
    assert span.trace == trace, "the decision was the caller's"


@enforces(
    f"{TAGS}literal.value",
    f"{TAGS}environment.name",
    f"{TAGS}environment.defaultValue",
    f"{TAGS}header.name",
    f"{TAGS}header.defaultValue",
    f"{TAGS}formatter.value",
)
def test_custom_tags(mesh: Mesh, receiver: Receiver) -> None:
    with_header = span_of(receiver, mesh, "tagged", x_tag="there").attributes
    assert (with_header["literal"], with_header["environment"]) == ("as it is", "set")
    assert (with_header["no-environment"], with_header["header"]) == ("none", "there")
    assert with_header["formatter"] == "GET by everything"
    assert span_of(receiver, mesh, "tagged").attributes["header"] == "nothing"
    assert not {"literal", "environment", "header", "formatter"} & span_of(receiver, mesh, "plain").attributes.keys()


@enforces(
    f"{OTLP}service",
    f"{OTLP}port",
    f"{OTLP}maxTagLength",
    f"{OTLP}grpc.initialMetadata[].name",
    f"{OTLP}grpc.initialMetadata[].value",
    f"{OTLP}resourceDetectors.environment",
)
def test_a_receiver_by_grpc(mesh: Mesh, legacy: Mesh, receiver: Receiver) -> None:
    span = span_of(receiver, mesh, "plain", _LONG)
    assert span.headers["x-key"] == "by grpc"
    assert len(span.attributes["url.path"]) == 20
    assert span.resource["deployment.environment"] == "test"
    other = span_of(receiver, legacy, "legacy", _LONG)
    assert "x-key" not in other.headers
    assert len(other.attributes["url.path"]) == 30
    assert "deployment.environment" not in other.resource


@enforces(
    f"{TRACING}providers[].name",
    f"{OTLP}http.path",
    f"{OTLP}http.timeout",
    f"{OTLP}http.headers[].name",
    f"{OTLP}http.headers[].value",
)
def test_a_receiver_by_http(mesh: Mesh, receiver: Receiver) -> None:
    span = span_of(receiver, mesh, "over-http")
    assert span.headers["x-key"] == "by http"
    assert receiver.paths[-1] == "/of/mine"
    assert span.headers["x-envoy-expected-rq-timeout-ms"] == "7000"
    assert "x-envoy-expected-rq-timeout-ms" not in span_of(receiver, mesh, "plain").headers


@enforces(f"{TRACING}disableContextPropagation")
def test_context_that_goes_no_further(mesh: Mesh, receiver: Receiver) -> None:
    """The sidecar before the backend goes on with the trace that it is told of, or begins its own."""
    went_on = span_of(receiver, mesh, "plain")
    stayed = span_of(receiver, mesh, "no-context")
    path = stayed.attributes["url.path"]
    behind = eventually(lambda: receiver.of(isthmus__peer=_EDGE % "no-context", url__path=path), _SECONDS)
    assert behind[0].trace != stayed.trace
    (followed,) = eventually(
        lambda: [span for span in receiver.of(isthmus__peer=_EDGE % "plain") if span.parent == went_on.id], _SECONDS
    )
    assert followed.trace == went_on.trace


@enforces(
    f"{LOGGING}disabled",
    f"{LOGGING}filter.expression",
    f"{LOGGING}match.mode",
    f"{MESH}defaultProviders.accessLogging",
)
def test_the_access_log_of_isthmus(mesh: Mesh) -> None:
    paths = ("/good", "/bad")
    for name in ("plain", "tagged", "untraced", "unsampled", "no-client", "no-server"):
        for path in paths:
            mesh.ask(name, path)

    def logged(name: str) -> set[str]:
        return {line["path"] for line in mesh.log(name) if line["path"] in paths}

    for name in ("plain", "no-server"):
        eventually(lambda name=name: logged(name) == set(paths))
    eventually(lambda: logged("tagged") == {"/bad"})
    assert [logged(name) for name in ("untraced", "unsampled", "no-client")] == [set()] * 3


@enforces(
    f"{LOGGING}providers[].name",
    f"{FILE}path",
    f"{FILE}logFormat.text",
    f"{FILE}logFormat.labels",
    f"{FILE}omitEmptyValues",
)
def test_access_logs_of_ones_own(mesh: Mesh, logs: Path) -> None:
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    assert mesh.ask("unsampled", x_id=one).status_code == 200
    assert mesh.ask("over-http", x_id=other).status_code == 200
    eventually(lambda: f"saw {one} []\n" in (logs / "text").read_text())
    eventually(lambda: f"saw {other} [-]\n" in (logs / "dash").read_text())
    lines = eventually(lambda: [line for line in (logs / "labels").read_text().splitlines() if other in line], _SECONDS)
    assert [json.loads(line) for line in lines] == [{"id": other, "nothing": None}]
    assert other not in (logs / "text").read_text()


@enforces(f"{MESH}accessLogFile", f"{MESH}accessLogFormat", f"{MESH}accessLogEncoding")
def test_the_mesh_wide_log_beside_that_of_isthmus(legacy: Mesh, mesh: Mesh, logs: Path) -> None:
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    assert legacy.ask("legacy", "/seen", x_id=one).status_code == 200
    assert mesh.ask("plain", x_id=other).status_code == 200
    lines = eventually(lambda: [line for line in (logs / "mesh").read_text().splitlines() if one in line])
    assert json.loads(lines[0]) == {"id": one, "code": 200}
    eventually(lambda: "/seen" in {line["path"] for line in legacy.log("legacy")})
    assert other not in (logs / "mesh").read_text()


@enforces(
    f"{MESH}defaultConfig.tracing.sampling",
    f"{MESH}defaultConfig.tracing.maxPathTagLength",
    f"{DEFAULT_TAGS}literal.value",
    f"{DEFAULT_TAGS}environment.name",
    f"{DEFAULT_TAGS}environment.defaultValue",
    f"{DEFAULT_TAGS}header.name",
    f"{DEFAULT_TAGS}header.defaultValue",
)
def test_defaults_of_the_mesh_configuration(legacy: Mesh, mesh: Mesh, receiver: Receiver) -> None:
    told = [span_of(receiver, legacy, "legacy", _LONG, x_tag="there") for _ in range(3)]
    assert len(told) == 3, "every request: one in a hundred unless said"
    tags = told[0].attributes
    assert (tags["literal"], tags["environment"], tags["no-environment"]) == ("as it is", "set", "none")
    assert (tags["header"], len(tags["url.path"])) == ("there", 30)
    assert span_of(receiver, legacy, "legacy").attributes["header"] == "nothing"
    assert "literal" not in span_of(receiver, mesh, "plain").attributes


@enforces(
    f"{OVERRIDES}disabled",
    f"{OVERRIDES}match.metric",
    f"{OVERRIDES}match.mode",
    f"{OVERRIDES}tagOverrides.*.operation",
    f"{OVERRIDES}tagOverrides.*.value",
)
def test_overrides_of_metrics(mesh: Mesh) -> None:
    for name in ("plain", "tagged", "no-client", "no-server"):
        assert mesh.ask(name).status_code == 200

    def counted(name: str) -> list[str]:
        return [line for line in mesh.metrics(name).splitlines() if line.startswith("istio_requests_total{")]

    plain = eventually(lambda: counted("plain"))[0]
    assert 'response_flags="-"' in plain
    assert 'destination_version="v7"' in plain
    assert "method=" not in plain
    assert "istio_request_duration_milliseconds_bucket" in mesh.metrics("plain")
    tagged = eventually(lambda: counted("tagged"))[0]
    assert "response_flags=" not in tagged
    assert 'method="GET"' in tagged
    assert "istio_request_bytes_bucket" in mesh.metrics("tagged")
    assert "istio_request_duration_milliseconds_bucket" not in mesh.metrics("tagged")
    assert eventually(lambda: counted("no-server"))
    assert not counted("no-client")


@enforces(f"{METRICS}providers[].name", f"{PROVIDER}prometheus", f"{MESH}defaultProviders.metrics")
def test_where_metrics_go(mesh: Mesh, receiver: Receiver) -> None:
    """That the mesh's default sends those of every proxy is shown in test_telemetry_metrics.py."""
    for name in ("over-http", "plain"):
        assert mesh.ask(name).status_code == 200
    exported = f"over-http.{NAMESPACE}"
    eventually(lambda: exported in {point.resource["service.name"] for point in tuple(receiver.points)}, 60)
    assert {point.resource["service.name"] for point in tuple(receiver.points)} == {exported}
    assert "istio_requests_total" in mesh.metrics("over-http")
