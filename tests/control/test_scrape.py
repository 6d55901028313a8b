from __future__ import annotations

from isthmus.control.scrape import exposition

from .making import SIDECAR, plane_of

_HEAD = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}, namespace: shop}}\n"


def entry(name: str, account: str, labels: str) -> str:
    spec = f"spec: {{address: 127.0.0.1, serviceAccount: {account}, labels: {{{labels}}}, ports: {{http: 80}}}}\n"
    return _HEAD.format(name=name) + spec


MESH = (
    entry("orders-1", "orders", "app: orders, version: v1"),
    entry("web-1", "web", "app: web, version: v1"),
    entry("web-2", "web", "app: web, version: v2"),
)
TELEMETRY = """\
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: t, namespace: shop}
spec:
  metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {source_app: {operation: REMOVE}}}]}]
"""


def shown(*lines: str, more: tuple[str, ...] = ()) -> list[str]:
    mesh = plane_of("\n---\n".join((*MESH, *more))).mesh
    proxy = mesh.proxies_by_id[SIDECAR]
    return exposition("\n".join(lines) + "\n", mesh, proxy).splitlines()


def at_destination(principal: str, name: str = "requests_total", labels: str = "") -> str:
    return f'envoy_istio_{name}{{reporter="destination",source_principal="{principal}"{labels}}} 3'


def test_names_are_istios_and_envoys_own_stay() -> None:
    assert shown("# TYPE envoy_istio_requests_total counter", "envoy_server_live{} 1") == [
        "# TYPE istio_requests_total counter",
        "envoy_server_live{} 1",
    ]


def test_what_envoy_does_not_know_is_unknown() -> None:
    assert shown('envoy_istio_requests_total{reporter="source",destination_app=""} 3') == [
        'istio_requests_total{reporter="source",destination_app="unknown"} 3'
    ]


def test_the_caller_is_looked_up_by_its_identity() -> None:
    (line,) = shown(at_destination("spiffe://cluster.local/ns/shop/sa/orders"))
    assert line.startswith(
        'istio_requests_total{source_workload="orders-1",source_workload_namespace="shop",'
        'source_app="orders",source_version="v1",reporter="destination",'
    )
    assert line.endswith("} 3")


def test_several_of_one_identity_share_what_they_have_in_common() -> None:
    (line,) = shown(at_destination("spiffe://cluster.local/ns/shop/sa/web"))
    assert 'source_workload="unknown"' in line
    assert 'source_app="web"' in line
    assert 'source_version="unknown"' in line


def test_a_stranger_and_nobody() -> None:
    (line,) = shown(at_destination("spiffe://cluster.local/ns/bank/sa/x"))
    assert 'source_workload="unknown",source_workload_namespace="bank"' in line
    (line,) = shown(at_destination(""))
    assert 'source_workload_namespace="unknown"' in line
    assert 'source_principal="unknown"' in line


def test_a_label_that_was_taken_away_does_not_come_back() -> None:
    count, size = shown(
        at_destination("spiffe://cluster.local/ns/shop/sa/orders"),
        at_destination("spiffe://cluster.local/ns/shop/sa/orders", "request_bytes_bucket", ',le="1"'),
        more=(TELEMETRY,),
    )
    assert "source_app" not in count
    assert 'source_app="orders"' in size


def test_metrics_of_our_own_have_their_own_names() -> None:
    line = 'isthmus_tls_handshake_failures_total{listener="gateway_443",reason="tls-not-tls"} 2'
    header = "# TYPE envoy_isthmus_tls_handshake_failures_total counter"
    assert shown(header, f"envoy_{line}") == [header.replace("envoy_", ""), line]


def test_the_way_to_oneself_is_not_told() -> None:
    own = 'envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name="metrics_export"} 9'
    assert shown(own, "envoy_server_live{} 1") == ["envoy_server_live{} 1"]
