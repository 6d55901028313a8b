from __future__ import annotations

import pytest
from traffic_manifest import compiled

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: otel
      opentelemetry: {service: otel.observe.svc.cluster.local, port: 4317MORE}
"""


def found(*texts: str) -> list[str]:
    """``line severity code: message`` of each finding at the mesh configuration."""
    return [
        f"{one.source.line} {one.severity.word} {one.code.id}: {one.message}"
        for one in compiled(*texts).diagnostics
        if one.ref is not None and one.ref.kind == "ConfigMap"
    ]


def service(port: int = 4317, name: str = "grpc") -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: otel, namespace: observe}}
spec:
  selector: {{app: otel}}
  ports: [{{name: {name}, port: {port}}}]
"""


def provider(more: str = "") -> str:
    return CONFIG.replace("MORE", more)


def test_a_service_that_nobody_declares() -> None:
    assert found(provider()) == ['7 error IST0101: no service named "otel.observe.svc.cluster.local"']


def test_a_port_that_the_service_has_not() -> None:
    assert found(provider(), service(port=4318)) == [
        '7 error IST0101: no port named "otel.observe.svc.cluster.local:4317" (it has 4318)'
    ]


def test_grpc_to_a_port_of_http_1() -> None:
    assert found(provider(), service(name="http")) == [
        '7 error ISM2192: provider "otel" exports over gRPC, and port 4317 of otel.observe.svc.cluster.local is '
        "declared http: nothing will arrive"
    ]


@pytest.mark.parametrize(
    ("more", "name"), [("", "grpc"), ("", "http2-otlp"), (", http: {path: /v1/traces}", "http"), ("", "grpc-otlp")]
)
def test_receivers_that_are_understood(more: str, name: str) -> None:
    assert found(provider(more), service(name=name)) == []
