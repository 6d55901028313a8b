from __future__ import annotations

from typing import Any

from isthmus.envoy_api import to_json, unpack
from isthmus.xds.observe import observe_http, observe_tcp, receivers

from .making import compiled, context_of, entry, gateway, mesh_config, networking, service

OTEL = networking(
    "ServiceEntry",
    "otel",
    "{hosts: [otel.example.com], location: MESH_EXTERNAL, resolution: DNS, "
    "ports: [{number: 4317, name: grpc, protocol: GRPC}]}",
)
CONFIG = """
    extensionProviders:
    - name: otel
      opentelemetry: {service: otel.example.com, port: 4317}
    - name: file
      envoyFileAccessLog: {path: /var/log/one, logFormat: {labels: {id: "%REQ(X-ID)%"}}}
"""
PARTS = (service("orders"), entry("orders-1"), gateway(), OTEL)


def telemetry(spec: str, namespace: str = "istio-system") -> str:
    return (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
        f"metadata: {{name: t, namespace: {namespace}}}\nspec: {spec}"
    )


def context(*more: str, proxy: str = "orders-1") -> Any:
    done = compiled(*PARTS, *more)
    assert not [found for found in done.diagnostics if found.severity.word == "error"]
    return context_of(done.mesh, proxy)


def names(observed: Any) -> list[str]:
    """The file that each logger writes to, or ``stats``."""
    return [
        "stats" if "stats" in log.name else unpack(log.typed_config).path  # type: ignore[attr-defined]
        for log in observed.logs
    ]


def test_usually_a_log_and_metrics_and_no_spans() -> None:
    observed = observe_http(context(), "inbound")
    assert names(observed) == ["/dev/stdout", "/dev/stdout", "stats", "stats"], "what is refused is counted by itself"
    assert names(observe_http(context(), "outbound")) == ["/dev/stdout", "/dev/stdout", "stats"]
    assert observed.tracing is None
    assert names(observe_tcp(context(), "inbound")) == ["/dev/stdout", "stats", "stats"]


def test_a_connection_is_logged_once() -> None:
    (log, *_) = observe_tcp(context(), "inbound").logs
    assert to_json(log)["filter"] == {"log_type_filter": {"types": ["TcpConnectionEnd"]}}
    filtered = telemetry("{accessLogging: [{filter: {expression: 'connection.mtls'}}]}")
    (log, *_) = observe_tcp(context(filtered), "inbound").logs
    cel, ended = to_json(log)["filter"]["and_filter"]["filters"]
    assert cel["extension_filter"]["typed_config"]["expression"] == "connection.mtls"
    assert ended == {"log_type_filter": {"types": ["TcpConnectionEnd"]}}


def test_logs_that_a_telemetry_asks_for() -> None:
    config = mesh_config(CONFIG)
    both = telemetry("{accessLogging: [{providers: [{name: file}, {name: envoy}]}]}")
    assert sorted(names(observe_http(context(config, both), "inbound"))) == [
        "/dev/stdout",
        "/dev/stdout",
        "/var/log/one",
        "stats",
        "stats",
    ]
    none = telemetry("{accessLogging: [{disabled: true}]}")
    assert names(observe_http(context(config, none), "inbound")) == ["stats", "stats"]
    some = telemetry("{accessLogging: [{match: {mode: CLIENT}, disabled: true}]}")
    assert names(observe_http(context(config, some), "inbound")) == ["/dev/stdout", "/dev/stdout", "stats", "stats"]
    assert names(observe_http(context(config, some), "outbound")) == ["stats"]


def test_the_mesh_wide_log_is_beside_ours() -> None:
    config = mesh_config("accessLogFile: /var/log/mesh")
    assert names(observe_http(context(config), "inbound")) == [
        "/dev/stdout",
        "/dev/stdout",
        "/var/log/mesh",
        "stats",
        "stats",
    ]
    ours = observe_http(context(mesh_config("accessLogFile: /dev/stdout")), "inbound")
    assert names(ours) == ["/dev/stdout", "/dev/stdout", "stats", "stats"]


def test_spans_go_to_the_provider() -> None:
    config = mesh_config(CONFIG + "    defaultProviders: {tracing: [otel]}\n")
    observed = observe_http(context(config), "inbound")
    (tracer,) = [observed.tracing.provider]
    built: Any = unpack(tracer.typed_config)
    assert built.grpc_service.envoy_grpc.cluster_name == "outbound|4317||otel.example.com"
    assert built.service_name == "orders.shop"
    off = telemetry("{tracing: [{disableSpanReporting: true}]}")
    assert observe_http(context(config, off), "inbound").tracing is None


def test_a_programs_own_calls_have_no_verdict() -> None:
    config = mesh_config(CONFIG + "    defaultProviders: {tracing: [otel]}\n")
    inbound, outbound = (
        {tag.tag for tag in observe_http(context(config), hop).tracing.custom_tags} for hop in ("inbound", "outbound")
    )
    assert "http.auth.status" in inbound - outbound
    assert "isthmus.deny_policy" in inbound - outbound
    assert "http.route" in inbound & outbound


def test_who_receives_is_told_once() -> None:
    config = mesh_config(CONFIG + "    defaultProviders: {tracing: [otel], metrics: [otel]}\n")
    (found,) = receivers(context(config))
    assert (found.host, found.port) == ("otel.example.com", 4317)
    assert list(receivers(context())) == []
