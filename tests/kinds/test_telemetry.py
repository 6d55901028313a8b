from __future__ import annotations

from dataclasses import replace

import pytest
from security_manifest import SHOP, Applied, applied, gateway, origin, workload

from isthmus.kinds.telemetry import KIND
from isthmus.model.cluster import Protocol, Resolution, Service, ServicePort
from isthmus.model.mesh import Mesh
from isthmus.model.selector import Scope
from isthmus.model.settings import Settings
from isthmus.model.telemetry import (
    CustomTag,
    FileLog,
    LoggingRule,
    MetricsOverride,
    MetricsRule,
    Mode,
    OpenTelemetry,
    Prometheus,
    TagChange,
    TagSource,
    TracingRule,
)

PROVIDERS = (
    OpenTelemetry("otel", "otel.observe.svc.cluster.local", 4317, origin()),
    FileLog("file", "/var/log/mesh", origin()),
    Prometheus("prom", origin()),
)
OTEL = Service(
    "otel.observe.svc.cluster.local",
    "observe",
    (ServicePort(4317, "grpc", Protocol.GRPC),),
    Resolution.WORKLOADS,
    origin(),
)
MESH = replace(SHOP, settings=Settings(telemetry_providers=PROVIDERS), services={OTEL.host: OTEL})


def telemetry(spec: str, mesh: Mesh = MESH, namespace: str = "shop", name: str = "t") -> Applied:
    head = f"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return applied(KIND, f"{head}spec: {spec}\n", mesh)


def codes(done: Applied) -> list[str]:
    return [" ".join(line.split()[1:3]) for line in done.found]


def test_tracing() -> None:
    done = telemetry(
        "{tracing: [{match: {mode: CLIENT}, providers: [{name: otel}], randomSamplingPercentage: 12.5, "
        "disableSpanReporting: false, disableContextPropagation: true, customTags: {a: {literal: {value: x}}, "
        "b: {environment: {name: ZONE, defaultValue: here}}, c: {header: {name: x-c}}, "
        'd: {formatter: {value: "%PROTOCOL%"}}}}]}'
    )
    assert done.found == []
    (found,) = done.mesh.telemetry
    tags = (
        CustomTag("a", TagSource.LITERAL, "x"),
        CustomTag("b", TagSource.ENVIRONMENT, "ZONE", "here"),
        CustomTag("c", TagSource.HEADER, "x-c"),
        CustomTag("d", TagSource.FORMATTER, "%PROTOCOL%"),
    )
    assert found.tracing == (TracingRule(Mode.CLIENT, "otel", 12.5, False, tags, True),)
    assert found.scope == Scope("shop")


def test_access_logging() -> None:
    done = telemetry(
        "{selector: {matchLabels: {app: orders}}, accessLogging: [{match: {mode: SERVER}, providers: [{name: file}, "
        '{name: envoy}], disabled: true, filter: {expression: "response.code >= 400"}}]}'
    )
    assert done.found == []
    (found,) = done.mesh.telemetry
    assert found.logging == (LoggingRule(Mode.SERVER, ("file", "envoy"), True, "response.code >= 400"),)
    assert found.scope == Scope("shop", (("app", "orders"),))


def test_metrics() -> None:
    done = telemetry(
        "{metrics: [{providers: [{name: prom}, {name: prometheus}, {name: otel}], overrides: [{match: "
        "{metric: REQUEST_COUNT, mode: SERVER}, disabled: false, tagOverrides: {a: {operation: REMOVE}, "
        "b: {value: request.method}}}, {disabled: true}]}]}"
    )
    assert done.found == []
    (found,) = done.mesh.telemetry
    changes = (TagChange("a", None), TagChange("b", "request.method"))
    assert found.metrics == (
        MetricsRule(
            ("prom", "prometheus", "otel"),
            (
                MetricsOverride("REQUEST_COUNT", Mode.SERVER, False, changes),
                MetricsOverride(None, Mode.CLIENT_AND_SERVER, True, ()),
            ),
        ),
    )


@pytest.mark.parametrize(
    "spec",
    [
        "{tracing: [{providers: [{name: otle}]}]}",
        "{tracing: [{providers: [{name: file}]}]}",
        "{accessLogging: [{providers: [{name: otel}]}]}",
        "{metrics: [{providers: [{name: file}]}]}",
    ],
)
def test_a_provider_that_is_not_there_or_takes_something_else(spec: str) -> None:
    assert codes(telemetry(spec)) == ["error ISM2190"]


def test_a_provider_that_is_nearly_there() -> None:
    (found,) = telemetry("{tracing: [{providers: [{name: otle}]}]}").found
    assert 'did you mean "otel"' in found


def test_only_one_provider_of_spans() -> None:
    done = telemetry("{tracing: [{providers: [{name: otel}, {name: otel}]}]}")
    assert codes(done) == ["warning ISM2191"]
    assert done.mesh.telemetry[0].tracing[0].provider == "otel"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("{tracing: [{randomSamplingPercentage: 101}]}", "error ISM1106"),
        ("{tracing: [{customTags: {a: {}}}]}", "error ISM1106"),
        ("{tracing: [{customTags: {a: {literal: {value: x}, header: {name: x}}}}]}", "error ISM1106"),
        ("{tracing: [{customTags: {a: {formatter: {value: '100%'}}}}]}", "error ISM1106"),
        ("{tracing: [{customTags: {a: {header: {name: 'x y'}}}}]}", "error ISM1106"),
        ("{accessLogging: [{filter: {expression: 'response.code >='}}]}", "error ISM1106"),
        ("{accessLogging: [{filter: {expression: 'respond.code == 1'}}]}", "error ISM1106"),
        ("{accessLogging: [{match: {mode: GATEWAY}}]}", "error ISM1106"),
        ("{metrics: [{overrides: [{match: {metric: GRPC_REQUEST_MESSAGES}}]}]}", "error ISM1106"),
        ("{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}", "error ISM1106"),
        ("{metrics: [{overrides: [{tagOverrides: {a: {value: '5 % 2'}}}]}]}", "error ISM1106"),
        ("{metrics: [{overrides: [{match: {customMetric: mine}}]}]}", "warning ISM1104"),
        ("{metrics: [{reportingInterval: 5s}]}", "warning ISM1104"),
        ("{tracing: [{enableIstioTags: false}]}", "warning ISM1104"),
        ("{targetRefs: [{kind: Service, name: x}]}", "error ISM2101"),
        ("{traceing: []}", "error ISM1101"),
    ],
)
def test_what_cannot_be_read_or_has_no_effect(spec: str, found: str) -> None:
    assert codes(telemetry(spec)) == [found]


def several(*documents: tuple[str, str, str]) -> list[str]:
    """(name, namespace, labels) of each."""
    text = "\n---\n".join(
        "apiVersion: telemetry.istio.io/v1alpha1\nkind: Telemetry\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{{f'selector: {{matchLabels: {{{labels}}}}}' if labels else ''}}}"
        for name, namespace, labels in documents
    )
    return codes(applied(KIND, text, MESH))


def test_one_without_a_selector_in_a_namespace() -> None:
    assert several(("a", "shop", ""), ("b", "shop", "")) == ["warning IST0160"]
    assert several(("a", "shop", ""), ("b", "istio-system", ""), ("c", "shop", "app: orders")) == []


def test_one_with_a_selector_for_a_workload() -> None:
    assert several(("a", "shop", "app: orders"), ("b", "shop", "app: orders")) == ["warning IST0159"]
    assert several(("a", "shop", "app: orders"), ("b", "shop", "app: users")) == []


def test_a_selector_that_nothing_has() -> None:
    assert several(("a", "shop", "app: nobody")) == ["warning IST0127"]
    # Of the root namespace, too, a selector speaks of that namespace alone.
    assert several(("a", "istio-system", "app: orders")) == ["warning IST0127"]
    assert several(("a", "istio-system", "")) == []


def test_a_gateway_is_selected_like_a_workload() -> None:
    mesh = replace(MESH, gateways=(gateway(app="edge"),), workloads=(workload(app="orders"),))
    assert telemetry("{selector: {matchLabels: {app: edge}}}", mesh, "edge").found == []
