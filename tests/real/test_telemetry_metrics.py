"""Metrics: a real Prometheus that scrapes a running mesh, the dashboards' queries put to it, and OTLP."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from isthmus.model.metric import CONTROL_PLANE_METRICS, LABELS, PROXY_METRICS
from tests.real.otlp import Receiver
from tests.real.servers import find_server
from tests.real.telemetry import OTEL, Shop, mesh_config, receiver_entry
from tests.real.up import eventually, free_port

pytestmark = pytest.mark.real

DASHBOARDS = Path(__file__).parents[2] / "deploy" / "grafana"
CONFIG = Path(__file__).parents[2] / "deploy" / "prometheus.yaml"
TO_ORDERS = {
    "reporter": "destination",
    "source_workload": "shop-gateway",
    "source_workload_namespace": "edge",
    "source_principal": "spiffe://cluster.local/ns/edge/sa/shop-gateway",
    "source_app": "shop-gateway",
    "source_version": "unknown",
    "destination_workload": "orders",
    "destination_workload_namespace": "shop",
    "destination_principal": "spiffe://cluster.local/ns/shop/sa/orders",
    "destination_app": "orders",
    "destination_version": "unknown",
    "destination_service": "orders.shop.svc.cluster.local",
    "destination_service_name": "orders",
    "destination_service_namespace": "shop",
    "request_protocol": "http",
    "response_code": "200",
    "response_flags": "-",
    "connection_security_policy": "mutual_tls",
}


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; raises for one that does not parse."""
        answer = httpx.get(
            f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False, timeout=30, verify=False
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Shop]:
    config = mesh_config(
        {
            "extensionProviders": [{"name": "otel", "opentelemetry": {"service": OTEL, "port": receiver.port}}],
            "defaultProviders": {"metrics": ["otel"]},
        }
    )
    with Shop(tmp_path_factory.mktemp("metrics"), config, receiver_entry(receiver)) as up:
        assert isinstance(up, Shop)
        yield up


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Prometheus]:
    """As ``deploy/prometheus.yaml`` configures it, but asking more often."""
    program, folder, port = find_server("prometheus"), tmp_path_factory.mktemp("prometheus"), free_port()
    where = shop.ready["control_plane"]["http"].removeprefix("http://")
    config = yaml.safe_load(CONFIG.read_text().replace("127.0.0.1:15014", where))
    config["global"]["scrape_interval"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = (
        str(program),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(argv, stdout=log, stderr=log)
    found = Prometheus(f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: len(found.query("up == 1")) == len(config["scrape_configs"]) - 1 + 5, 60)
        yield found
    finally:
        running.terminate()
        running.wait(60)


def labels(selected: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in selected.items()) + "}"


def test_requests_are_counted_with_istios_labels(shop: Shop, prometheus: Prometheus) -> None:
    counted = f"istio_requests_total{labels(TO_ORDERS)}"

    def value() -> float:
        return sum(float(sample["value"][1]) for sample in prometheus.query(counted))

    before = eventually(value, 60)
    for _ in range(7):
        assert shop.order().status_code == 200
    assert eventually(lambda: (now := value()) > before and now, 60) <= before + 7
    assert eventually(lambda: value() == before + 7, 60)
    (sample,) = prometheus.query(counted)
    assert sample["metric"].keys() >= LABELS.keys()


def test_both_sides_count_the_same_and_a_refusal_is_counted_too(shop: Shop, prometheus: Prometheus) -> None:
    assert shop.ask(token=False).status_code == 403
    by_gateway = 'istio_requests_total{reporter="source",source_workload="shop-gateway",response_code="403"}'
    (refused,) = eventually(lambda: prometheus.query(by_gateway), 60)
    assert refused["metric"]["destination_service"] == "orders.shop.svc.cluster.local"
    assert refused["metric"]["destination_workload"] == "unknown", "it was not reached"

    def agree() -> bool:
        hop = '{reporter="%s",destination_service_name="inventory"}'
        sums = [prometheus.query(f"sum(istio_requests_total{hop % side})") for side in ("source", "destination")]
        return bool(sums[0]) and sums[0][0]["value"][1] == sums[1][0]["value"][1]

    assert eventually(agree, 60)


@pytest.mark.parametrize("name", ["request_duration_milliseconds", "request_bytes", "response_bytes"])
def test_distributions(name: str, shop: Shop, prometheus: Prometheus) -> None:
    query = f"histogram_quantile(0.5, sum by (le) (istio_{name}_bucket{labels(TO_ORDERS)}))"
    (sample,) = eventually(lambda: prometheus.query(query), 60)
    assert float(sample["value"][1]) >= 0


def test_what_a_client_writes_makes_no_series(shop: Shop) -> None:
    for number in range(20):
        shop.ask(path=f"/orders/{number}?q={number}", headers={"host": f"h{number}.example.com", "x-a": str(number)})
    for proxy in ("gateway~edge~shop-gateway", "sidecar~shop~orders"):
        text = shop.metrics_of(proxy)
        assert "h7.example.com" not in text
        series = [line for line in text.splitlines() if line.startswith("istio_requests_total{")]
        assert 0 < len(series) < 10


def test_only_what_is_documented_is_kept(shop: Shop) -> None:
    names = {
        match[1]
        for line in shop.metrics_of("sidecar~shop~orders").splitlines()
        if (match := re.match(r"(\w+)\{", line))
    }
    assert not {name for name in names if "upstream_rq_200" in name or "lb_healthy_panic" in name or "assign" in name}
    assert any(name.startswith("envoy_server_") for name in names)
    assert any(name.endswith("membership_healthy") for name in names)


def test_the_control_planes_own(shop: Shop, prometheus: Prometheus) -> None:
    (proxies,) = eventually(lambda: prometheus.query("pilot_xds"), 60)
    assert float(proxies["value"][1]) == len(shop.ready["gateways"]) + len(shop.ready["workloads"])
    text = httpx.get(f"{shop.ready['control_plane']['http']}/metrics", trust_env=False, timeout=30, verify=False).text
    described = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    assert {metric.name for metric in CONTROL_PLANE_METRICS} <= described
    value = dict(re.findall(r"^([a-z_]+) ([0-9.e+]+)$", text, re.M))
    assert float(value["pilot_services"]) >= 4
    assert float(value["pilot_virt_services"]) == 1
    assert float(value["pilot_jwks_resolver_network_fetch_success_total"]) >= 1
    assert float(value["citadel_server_success_cert_issuance_count"]) >= 5
    assert float(value["citadel_server_root_cert_expiry_timestamp"]) > 1.7e9
    assert float(value["pilot_proxy_convergence_time_count"]) >= 5
    assert re.search(r'^pilot_xds_pushes\{type="lds"\} ', text, re.M)
    turns = float(value["pilot_debounce_time_count"])
    shop.write("80-more.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: more}\n")

    def counted() -> bool:
        again = httpx.get(
            f"{shop.ready['control_plane']['http']}/metrics", trust_env=False, timeout=30, verify=False
        ).text
        return float(re.findall(r"^pilot_debounce_time_count ([0-9.]+)$", again, re.M)[0]) > turns

    eventually(counted, 60)


def test_a_proxy_that_is_not_there(shop: Shop) -> None:
    http = shop.ready["control_plane"]["http"]
    assert (
        httpx.get(f"{http}/metrics/proxies/sidecar~shop~nobody", trust_env=False, timeout=30, verify=False).status_code
        == 404
    )


def test_the_same_metrics_go_out_over_otlp(shop: Shop, receiver: Receiver) -> None:
    assert shop.order().status_code == 200
    known_by_envoy = {name: value for name, value in TO_ORDERS.items() if name not in _LOOKED_UP}

    def found() -> bool:
        return any(
            point.metric == "istio_requests_total" and known_by_envoy.items() <= point.attributes.items()
            for point in tuple(receiver.points)
        )

    eventually(found, 60)
    services = {point.resource["service.name"] for point in tuple(receiver.points)}
    assert services >= {"shop-gateway.edge", "orders.shop", "inventory.shop", "users.shop"}


_LOOKED_UP = {"source_workload", "source_workload_namespace", "source_app", "source_version"}


def panels(dashboard: Path) -> list[tuple[str, str]]:
    """(title, query) of every panel."""
    written = json.loads(dashboard.read_text())
    return [(panel["title"], target["expr"]) for panel in written["panels"] for target in panel.get("targets", ())]


@pytest.mark.parametrize("file", sorted(DASHBOARDS.glob("*.json")), ids=lambda file: str(file.stem))
def test_every_query_of_a_dashboard_parses_and_answers(file: Path, shop: Shop, prometheus: Prometheus) -> None:
    shop.ask(token=False)
    shop.order()
    variables = {"$__rate_interval": "1m", "$namespace": ".*", "$service": ".*", "$reporter": "destination"}
    queries = []
    for title, query in panels(file):
        for name, value in variables.items():
            query = query.replace(name, value)
        assert "$" not in query
        queries.append((title, query))

    def silent() -> set[str]:
        return {title for title, query in queries if not prometheus.query(query)}

    # There is no plain TCP in the shop, and nothing is refused by a proxy.
    eventually(lambda: silent() <= {"TCP bytes", "TCP connections", "Refused configuration"}, 60, every=1)


def test_dashboards_ask_for_metrics_that_exist() -> None:
    known = {metric.name for metric in (*PROXY_METRICS, *CONTROL_PLANE_METRICS)}
    asked = {
        name
        for file in DASHBOARDS.glob("*.json")
        for _, query in panels(file)
        for name in re.findall(r"\b(?:istio|pilot|citadel)_\w+", query)
    }
    assert asked
    assert {name for name in asked if not {name, re.sub(r"_(bucket|sum|count)$", "", name)} & known} == set()
