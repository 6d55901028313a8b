from __future__ import annotations

from datetime import timedelta

from isthmus.xds.secret import SDS_CLUSTER, sds_secret


def test_secrets_come_from_the_agent_never_by_ads() -> None:
    source = sds_secret("default").sds_config
    assert source.WhichOneof("config_source_specifier") == "api_config_source"
    (service,) = source.api_config_source.grpc_services
    assert service.envoy_grpc.cluster_name == SDS_CLUSTER


def test_one_secret_that_never_comes_does_not_hold_back_the_others() -> None:
    assert sds_secret("default").sds_config.initial_fetch_timeout.ToTimedelta() == timedelta(seconds=5)
