from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters.rego import CLUSTER, REGO, Rego
from isthmus.model.consumer import CLIENT
from isthmus.model.decision import DecisionService
from isthmus.model.rego import POLICIES
from isthmus.model.settings import RequestBody
from isthmus.xds.decision import decision_cluster

BODY = RequestBody(64, allow_partial=True, as_bytes=False)


def built(config: Rego) -> tuple[Any, Any]:
    """The filter and its configuration."""
    (message,) = REGO.build(config)
    return message, unpack(message.typed_config)


def test_it_fails_closed() -> None:
    message, config = built(Rego(("shop/a", "shop/b"), timedelta(seconds=1), BODY))
    assert not message.disabled
    assert not config.failure_mode_allow
    assert config.status_on_error.code == 503
    assert config.grpc_service.envoy_grpc.cluster_name == CLUSTER == decision_cluster(DecisionService.REGO)
    assert config.grpc_service.timeout.seconds == 1
    assert [(one.key, one.value) for one in config.grpc_service.initial_metadata] == [(POLICIES, "shop/a,shop/b")]


def test_the_service_is_told_who_was_verified() -> None:
    _, config = built(Rego(("shop/a",)))
    assert list(config.metadata_context_namespaces) == ["envoy.filters.http.jwt_authn", CLIENT]
    assert config.include_peer_certificate
    assert config.enable_dynamic_metadata_ingestion.value


def test_without_a_policy_nobody_is_asked_but_for_routes() -> None:
    assert built(Rego(()))[0].disabled
    assert REGO.build_route is not None
    assert REGO.build_route(Rego(())).disabled


def test_a_route_says_it_all() -> None:
    assert REGO.build_route is not None
    settings = REGO.build_route(Rego(("shop/a",), timedelta(seconds=2), BODY)).check_settings
    assert dict(settings.context_extensions) == {POLICIES: "shop/a"}
    assert settings.grpc_service.timeout.seconds == 2
    assert settings.with_request_body.max_request_bytes == 64
    assert settings.with_request_body.allow_partial_message
    assert REGO.build_route(Rego(("shop/a",))).check_settings.disable_request_body_buffering
