from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters.credentials import CREDENTIALS, Credentials, client_log_fields
from isthmus.model.client_authentication import ACCEPTS


def built(config: Credentials) -> tuple[Any, Any]:
    """The filter and its configuration."""
    (message,) = CREDENTIALS.build(config)
    return message, unpack(message.typed_config)


def test_it_fails_closed() -> None:
    message, config = built(Credentials('{"required":true}'))
    assert not message.disabled
    assert not config.failure_mode_allow
    assert config.status_on_error.code == 503
    assert config.grpc_service.envoy_grpc.cluster_name == "isthmus_credentials"
    assert config.grpc_service.timeout.seconds > 0


def test_only_what_may_be_a_credential_is_sent() -> None:
    _, config = built(Credentials("{}", ("x-api-key", "x-other")))
    names = [pattern.exact for pattern in config.allowed_headers.patterns]
    assert names == ["authorization", "cookie", "x-api-key", "x-other"]
    assert config.include_peer_certificate
    assert not config.HasField("with_request_body")


def test_percent_signs_are_no_commands() -> None:
    _, config = built(Credentials('{"issuers":["https://a/%20%PATH%"]}'))
    (told,) = config.grpc_service.initial_metadata
    assert (told.key, "%" in told.value) == (ACCEPTS, False)
    assert told.value == r'{"issuers":["https://a/\u002520\u0025PATH\u0025"]}'


def test_where_the_chain_asks_nobody_routes_may() -> None:
    message, config = built(Credentials(None))
    assert message.disabled
    assert not config.grpc_service.initial_metadata
    assert CREDENTIALS.build_route is not None
    route: Any = CREDENTIALS.build_route(Credentials("{}"))
    assert dict(route.check_settings.context_extensions) == {ACCEPTS: "{}"}
    nobody: Any = CREDENTIALS.build_route(Credentials(None))
    assert nobody.disabled


def test_what_the_log_tells_of_the_client() -> None:
    assert client_log_fields()["consumer"] == "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:consumer)%"
