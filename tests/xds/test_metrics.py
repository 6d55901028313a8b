from __future__ import annotations

import re
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.model.metric import LABELS, PROXY_METRICS
from isthmus.model.telemetry import Mode, Telemetry
from isthmus.xds.metrics import build_http_stats, build_tcp_stats
from isthmus.xds.observe import telemetries

from .making import compiled, context_of, entry, gateway, service

PARTS = (service("orders"), entry("orders-1", version="v1"), gateway())
_LOOKED_UP = {"source_workload", "source_workload_namespace", "source_app", "source_version"}


def telemetry(overrides: str) -> str:
    return (
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t, namespace: shop}\n"
        f"spec: {{metrics: [{{overrides: [{overrides}]}}]}}"
    )


def http_stats(proxy: str = "orders-1", mode: Mode = Mode.SERVER, *more: str) -> Any:
    context = context_of(compiled(*PARTS, *more).mesh, proxy)
    found = build_http_stats(context, telemetries(context), mode)
    return unpack(found[0].typed_config) if found else None


def tags(stat: Any) -> dict[str, str]:
    return {tag.name: tag.value_format for tag in stat.tags}


def test_every_http_metric_once() -> None:
    config = http_stats()
    names = [one.stat.name for one in (*config.counters, *config.histograms)]
    assert sorted(names) == sorted(metric.name for metric in PROXY_METRICS if "tcp" not in metric.name)
    assert [one.value_format for one in config.histograms] == ["%DURATION%", "%BYTES_RECEIVED%", "%BYTES_SENT%"]
    assert config.stats_scope.max_counters.value > 0
    assert not config.stats_scope.sharing_name, "Envoy 1.39.3 crashes of it as it validates"


@pytest.mark.parametrize(
    ("proxy", "mode"), [("orders-1", Mode.CLIENT), ("edge", Mode.CLIENT), ("orders-1", Mode.SERVER)]
)
def test_istios_labels(proxy: str, mode: Mode) -> None:
    found = tags(http_stats(proxy, mode).counters[0].stat)
    missing = LABELS.keys() - found.keys()
    assert missing == (set() if mode is Mode.CLIENT else _LOOKED_UP)
    assert found.keys() <= LABELS.keys()


@pytest.mark.parametrize("mode", list(Mode)[1:])
def test_no_label_is_what_a_client_writes(mode: Mode) -> None:
    for value in tags(http_stats("orders-1", mode).counters[0].stat).values():
        assert not re.search(r"%(REQ|PATH|QUERY|REQUESTED_SERVER_NAME)|request\.", value)


def test_the_own_side_is_known() -> None:
    found = tags(http_stats("orders-1", Mode.SERVER).counters[0].stat)
    assert (found["destination_workload"], found["destination_version"]) == ("orders-1", "v1")
    found = tags(http_stats("edge", Mode.CLIENT).counters[0].stat)
    assert (found["source_workload"], found["source_workload_namespace"]) == ("edge", "shop")


def test_overrides() -> None:
    labels = "{response_flags: {operation: REMOVE}, method: {value: request.method}}"
    given = telemetry(f"{{match: {{metric: REQUEST_COUNT}}, tagOverrides: {labels}}}")
    config = http_stats("orders-1", Mode.SERVER, given)
    found = tags(config.counters[0].stat)
    assert "response_flags" not in found
    assert found["method"] == "%CEL(request.method)%"
    assert "response_flags" in tags(config.histograms[0].stat)


def test_what_is_turned_off() -> None:
    assert http_stats("orders-1", Mode.SERVER, telemetry("{disabled: true}")) is None
    config = http_stats("orders-1", Mode.SERVER, telemetry("{match: {metric: REQUEST_SIZE}, disabled: true}"))
    assert [one.stat.name for one in config.histograms] == [
        "istio_request_duration_milliseconds",
        "istio_response_bytes",
    ]


def test_connections_are_counted_at_their_beginning_and_end() -> None:
    context = context_of(compiled(*PARTS).mesh, "orders-1")
    found = {
        tuple(one.filter.log_type_filter.types): [counter.stat.name for counter in unpack(one.typed_config).counters]  # type: ignore[attr-defined]
        for one in build_tcp_stats(context, (), Mode.SERVER)
    }
    assert list(found.values()) == [
        ["istio_tcp_connections_opened_total"],
        ["istio_tcp_connections_closed_total", "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"],
    ]


def test_no_rule_is_no_override() -> None:
    nothing: tuple[Telemetry, ...] = ()
    context = context_of(compiled(*PARTS).mesh, "orders-1")
    assert len(build_http_stats(context, nothing, Mode.SERVER)) == 1
