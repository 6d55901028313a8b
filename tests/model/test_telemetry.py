from __future__ import annotations

from typing import Any

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.model.selector import Scope
from isthmus.model.telemetry import (
    CustomTag,
    LoggingRule,
    MetricsOverride,
    MetricsRule,
    Mode,
    TagChange,
    TagSource,
    Telemetry,
    TelemetryDefaults,
    TracingRule,
    applicable,
    logging_of,
    metrics_of,
    metrics_providers,
    tracing_of,
)

ROOT = "istio-system"
NOTHING = TelemetryDefaults()
TAG = CustomTag("a", TagSource.LITERAL, "x")


def telemetry(name: str, namespace: str = "shop", app: str | None = None, **rules: Any) -> Telemetry:
    labels = (("app", app),) if app else ()
    origin = Origin(Ref("Telemetry", namespace, name), Source("t.yaml", 1, 1))
    return Telemetry(name, namespace, Scope(namespace, labels), origin, **rules)


def test_widest_first_and_the_oldest_of_each() -> None:
    all_of_them = [
        telemetry("own", app="orders"),
        telemetry("later-own", app="orders"),
        telemetry("other", app="users"),
        telemetry("shop"),
        telemetry("later-shop"),
        telemetry("elsewhere", "bank"),
        telemetry("mesh", ROOT),
        telemetry("root-only", ROOT, app="orders"),
    ]
    found = applicable(all_of_them, ROOT, ["shop"], {"app": "orders"})
    assert [one.name for one in found] == ["mesh", "shop", "own"]
    assert [one.name for one in applicable(all_of_them, ROOT, [ROOT], {"app": "orders"})] == ["mesh", "root-only"]
    assert [one.name for one in applicable(all_of_them, ROOT, ["empty"], {})] == ["mesh"]


def tracing(*rules: TracingRule, defaults: TelemetryDefaults = NOTHING, mode: Mode = Mode.SERVER) -> Any:
    return tracing_of([telemetry(str(n), tracing=(rule,)) for n, rule in enumerate(rules)], mode, defaults)


def test_without_a_provider_there_are_no_spans() -> None:
    assert tracing() is None
    assert tracing(TracingRule(sampling=100)) is None


def test_narrower_rules_change_what_they_speak_of() -> None:
    found = tracing(TracingRule(provider="otel", sampling=5.0, custom_tags=(TAG,)), TracingRule(sampling=0.0))
    assert (found.provider, found.sampling, found.custom_tags) == ("otel", 0.0, (TAG,))
    found = tracing(TracingRule(provider="otel", custom_tags=(TAG,)), TracingRule(custom_tags=()))
    assert found.custom_tags == (), "tags replace those of the wider rule"


def test_defaults_of_the_mesh() -> None:
    found = tracing(defaults=TelemetryDefaults(tracing=("otel", "more"), sampling=3.0, custom_tags=(TAG,)))
    assert (found.provider, found.sampling, found.custom_tags) == ("otel", 3.0, (TAG,))
    assert tracing(defaults=TelemetryDefaults(tracing=("otel",))).sampling == 1.0


def test_spans_are_turned_off_and_on_by_side() -> None:
    off = TracingRule(mode=Mode.CLIENT, disabled=True)
    on = TelemetryDefaults(tracing=("otel",))
    assert tracing(off, defaults=on, mode=Mode.CLIENT) is None
    assert tracing(off, defaults=on, mode=Mode.SERVER) is not None
    assert tracing(off, TracingRule(disabled=False), defaults=on, mode=Mode.CLIENT) is not None


def logging(
    *levels: tuple[LoggingRule, ...], defaults: tuple[str, ...] = (), mode: Mode = Mode.SERVER
) -> dict[str, str | None] | None:
    applied = [telemetry(str(number), logging=rules) for number, rules in enumerate(levels)]
    found = logging_of(applied, mode, TelemetryDefaults(logging=defaults))
    return None if found is None else dict(found)


@pytest.mark.parametrize(
    ("levels", "defaults", "expected"),
    [
        ((), (), None),
        ((), ("file",), {"file": None}),
        (((LoggingRule(disabled=True),),), (), {}),
        (((LoggingRule(filter="a"),),), (), {"envoy": "a"}),
        (((LoggingRule(providers=("file",)),),), (), {"file": None}),
        (((LoggingRule(providers=("file", "envoy"), filter="a"),),), (), {"file": "a", "envoy": "a"}),
        (((LoggingRule(providers=("file",)),), (LoggingRule(providers=("other",)),)), (), {"other": None}),
        (((LoggingRule(providers=("file",)),), (LoggingRule(disabled=True),)), (), {}),
        (((LoggingRule(disabled=True),), (LoggingRule(providers=("envoy",)),)), (), {"envoy": None}),
        (((LoggingRule(mode=Mode.CLIENT, disabled=True),),), (), {"envoy": None}),
        (((LoggingRule(mode=Mode.SERVER, disabled=True),),), (), {}),
        (((LoggingRule(disabled=True),),), ("file",), {}),
    ],
)
def test_who_logs(levels: Any, defaults: Any, expected: Any) -> None:
    assert logging(*levels, defaults=defaults) == expected


def metrics(*overrides: MetricsOverride, mode: Mode = Mode.SERVER) -> Any:
    applied = [telemetry(str(n), metrics=(MetricsRule(overrides=(one,)),)) for n, one in enumerate(overrides)]
    return metrics_of(applied, "REQUEST_COUNT", mode)


def test_overrides_of_metrics_in_their_order() -> None:
    assert not metrics().disabled
    assert metrics(MetricsOverride(disabled=True)).disabled
    assert not metrics(MetricsOverride(disabled=True), MetricsOverride("REQUEST_COUNT", disabled=False)).disabled
    assert not metrics(MetricsOverride("REQUEST_SIZE", disabled=True)).disabled
    assert not metrics(MetricsOverride(mode=Mode.CLIENT, disabled=True)).disabled
    first, second = TagChange("a", "request.method"), TagChange("a", None)
    assert metrics(MetricsOverride(tags=(first,)), MetricsOverride(tags=(second,))).tags == {"a": None}


def test_where_metrics_go() -> None:
    named = telemetry("t", metrics=(MetricsRule(("otel",)), MetricsRule()))
    assert metrics_providers([named], TelemetryDefaults(metrics=("prom",))) == ("otel",)
    assert metrics_providers([], TelemetryDefaults(metrics=("prom",))) == ("prom",)
