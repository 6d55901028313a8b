"""A receiver of OpenTelemetry: OTLP over gRPC, and over HTTP for spans, that keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from isthmus.envoy_api import Package

_TRACES = Package("opentelemetry.proto.collector.trace.v1")
_METRICS = Package("opentelemetry.proto.collector.metrics.v1")


@dataclass(frozen=True, slots=True)
class Span:
    trace: str
    id: str
    parent: str
    """Empty: the first of its trace."""
    name: str
    attributes: dict[str, str]
    resource: dict[str, str]
    headers: dict[str, str]
    """Of the export that brought it."""

    @property
    def service(self) -> str:
        return self.resource["service.name"]


@dataclass(frozen=True, slots=True)
class Point:
    metric: str
    value: float
    attributes: dict[str, str]
    resource: dict[str, str]


class Receiver:
    """``spans`` and ``points``: everything that came, in order. ``port``: gRPC; ``http_port``: spans at any path."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Span] = []
        self.points: list[Point] = []
        self.paths: list[str] = []
        """Of exports over HTTP."""
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (
                _handler(_TRACES, "TraceService", "Trace", self._take_spans),
                _handler(_METRICS, "MetricsService", "Metrics", self._take_metrics),
            )
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._http = _http_server(self)

    @property
    def http_port(self) -> int:
        return int(self._http.server_address[1])

    def __enter__(self) -> Receiver:
        self._server.start()
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()

    def traces(self) -> dict[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        for span in tuple(self.spans):
            found.setdefault(span.trace, []).append(span)
        return found

    def of(self, **attributes: str) -> list[Span]:
        """The spans with these attributes; ``a__b`` stands for ``a.b``."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return [span for span in tuple(self.spans) if wanted.items() <= span.attributes.items()]

    def take(self, request: Any, headers: dict[str, str]) -> None:
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    self.spans.append(Span(*ids, span.name, _attributes(span.attributes), resource, headers))

    def _take_spans(self, request: Any, context: Any) -> Any:
        self.take(request, dict(context.invocation_metadata()))
        return _TRACES.ExportTraceServiceResponse()

    def _take_metrics(self, request: Any, context: Any) -> Any:
        for group in request.resource_metrics:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    self.points.extend(_points(metric, resource))
        return _METRICS.ExportMetricsServiceResponse()


def _handler(package: Any, service: str, kind: str, take: Any) -> Any:
    request = getattr(package, f"Export{kind}ServiceRequest")
    response = getattr(package, f"Export{kind}ServiceResponse")
    method = grpc.unary_unary_rpc_method_handler(take, request.FromString, response.SerializeToString)
    name = f"opentelemetry.proto.collector.{kind.lower().removesuffix('s')}"
    name = "opentelemetry.proto.collector.metrics" if kind == "Metrics" else name
    return grpc.method_handlers_generic_handler(f"{name}.v1.{service}", {"Export": method})


def _attributes(found: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in found}


def _points(metric: Any, resource: dict[str, str]) -> Iterator[Point]:
    for point in (*metric.sum.data_points, *metric.gauge.data_points):
        yield Point(metric.name, point.as_int or point.as_double, _attributes(point.attributes), resource)
    for point in metric.histogram.data_points:
        yield Point(metric.name, point.count, _attributes(point.attributes), resource)


def _http_server(receiver: Receiver) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            receiver.paths.append(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.take(_TRACES.ExportTraceServiceRequest.FromString(body), headers)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if "content-length" in self.headers:
                return self.rfile.read(int(self.headers["content-length"]))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
