from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import accesslog_v3, http_connection_manager_v3, route_v3
from isthmus.model.settings import PathNormalization, Settings
from isthmus.xds.hcm import Http, Side, build_hcm
from isthmus.xds.observe import Observed

HTTP = Http(Side.GATEWAY, "http", "routes", (), Observed((accesslog_v3.AccessLog(name="log"),)))
SIDES = list(Side)


def built(side: Side, settings: Settings | None = None, **changes: Any) -> Any:
    return unpack(build_hcm(replace(HTTP, side=side, **changes), settings or Settings()).typed_config)


def word(found: Any, field: str) -> str:
    value = getattr(found, field)
    return str(found.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[value].name)


@pytest.mark.parametrize(
    ("side", "mode", "details"),
    [
        (Side.GATEWAY, "SANITIZE_SET", {"subject", "uri", "dns", "cert"}),
        (Side.INBOUND, "APPEND_FORWARD", {"subject", "uri", "dns"}),
        (Side.OUTBOUND, "SANITIZE", set()),
    ],
)
def test_who_may_say_who_the_caller_is(side: Side, mode: str, details: set[str]) -> None:
    found = built(side)
    assert word(found, "forward_client_cert_details") == mode
    told = found.set_current_client_cert_details
    named = {name for name in ("uri", "dns", "cert") if getattr(told, name)}
    assert named | ({"subject"} if told.HasField("subject") and told.subject.value else set()) == details


def test_the_edge_believes_nobody() -> None:
    edge = built(Side.GATEWAY)
    assert edge.use_remote_address.value
    assert not edge.preserve_external_request_id
    assert word(edge, "server_header_transformation") == "OVERWRITE"
    assert word(edge, "path_with_escaped_slashes_action") == "REJECT_REQUEST"
    assert edge.merge_slashes
    options = edge.common_http_protocol_options
    assert word(options, "headers_with_underscores_action") == "REJECT_REQUEST"
    assert edge.request_headers_timeout.ToTimedelta() == timedelta(seconds=10)
    assert edge.stream_idle_timeout.ToTimedelta() == timedelta(minutes=5)
    assert options.idle_timeout.ToTimedelta() == timedelta(minutes=5)


@pytest.mark.parametrize("side", [Side.INBOUND, Side.OUTBOUND])
def test_inside_requests_are_as_long_as_programs_wish(side: Side) -> None:
    found = built(side)
    assert not found.use_remote_address.value
    assert found.HasField("stream_idle_timeout"), "Envoy's own would be five minutes"
    assert found.stream_idle_timeout.ToTimedelta() == timedelta()
    assert word(found, "server_header_transformation") == "PASS_THROUGH"
    assert word(found.common_http_protocol_options, "headers_with_underscores_action") == "ALLOW"


def test_a_request_keeps_its_id_within_the_mesh() -> None:
    assert {side: built(side).preserve_external_request_id for side in SIDES} == {
        Side.GATEWAY: False,
        Side.INBOUND: True,
        Side.OUTBOUND: False,
    }


@pytest.mark.parametrize("side", SIDES)
def test_limits(side: Side) -> None:
    found = built(side)
    assert found.common_http_protocol_options.max_headers_count.value == 100
    h2 = found.http2_protocol_options
    assert h2.max_concurrent_streams.value == 100
    assert h2.initial_stream_window_size.value == 65536
    assert h2.initial_connection_window_size.value == 1048576


def test_hops_before_the_gateway_are_the_gateways_business() -> None:
    settings = Settings(trusted_proxies=2)
    assert [built(side, settings).xff_num_trusted_hops for side in SIDES] == [2, 0, 0]


@pytest.mark.parametrize(
    ("mode", "normalised", "merged", "escaped"),
    [
        (PathNormalization.NONE, False, False, "KEEP_UNCHANGED"),
        (PathNormalization.BASE, True, False, "KEEP_UNCHANGED"),
        (PathNormalization.MERGE_SLASHES, True, True, "KEEP_UNCHANGED"),
        (PathNormalization.DECODE_AND_MERGE_SLASHES, True, True, "UNESCAPE_AND_FORWARD"),
    ],
)
def test_paths_are_normalised_as_the_mesh_says_and_always_at_the_edge(
    mode: PathNormalization, normalised: bool, merged: bool, escaped: str
) -> None:
    settings = Settings(path_normalization=mode)
    for side in (Side.INBOUND, Side.OUTBOUND):
        found = built(side, settings)
        assert (found.normalize_path.value, found.merge_slashes) == (normalised, merged)
        assert found.HasField("normalize_path"), "Envoy's own choice is the runtime's"
        assert word(found, "path_with_escaped_slashes_action") == escaped
    edge = built(Side.GATEWAY, settings)
    assert (edge.normalize_path.value, edge.merge_slashes) == (True, True)
    assert word(edge, "path_with_escaped_slashes_action") == "REJECT_REQUEST"


@pytest.mark.parametrize("side", SIDES)
def test_a_host_with_a_dot_at_its_end_is_the_same_host(side: Side) -> None:
    """Or a policy's hosts, and the host of a server that asks for client certificates, could be walked around."""
    assert built(side).strip_trailing_host_dot


def test_reserved_headers_go_before_anything_looks_at_the_request() -> None:
    found = built(Side.GATEWAY, reserved_headers=("x-b", "x-a", "x-b"))
    (extension,) = found.early_header_mutation_extensions
    mutations: Any = unpack(extension.typed_config)
    assert [one.remove for one in mutations.mutations] == ["x-a", "x_a", "x-b", "x_b"]
    assert not built(Side.GATEWAY).early_header_mutation_extensions


def test_with_several_hyphens_each_may_be_an_underscore() -> None:
    (extension,) = built(Side.GATEWAY, reserved_headers=("x-user-id",)).early_header_mutation_extensions
    mutations: Any = unpack(extension.typed_config)
    (one,) = mutations.mutations
    assert one.remove_on_match.key_matcher.safe_regex.regex == "x[-_]user[-_]id"


@pytest.mark.parametrize("side", [Side.INBOUND, Side.OUTBOUND])
def test_inside_nobody_tells_the_logs_another_path(side: Side) -> None:
    """At the edge Envoy takes ``x-envoy-*`` away by itself."""
    (extension,) = built(side).early_header_mutation_extensions
    mutations: Any = unpack(extension.typed_config)
    assert [one.remove for one in mutations.mutations] == ["x-envoy-original-path"]


def test_routes_are_discovered_or_stand_in_place() -> None:
    discovered = built(Side.GATEWAY)
    assert discovered.rds.route_config_name == "routes"
    assert discovered.rds.config_source.HasField("ads")
    in_place = built(Side.INBOUND, routes=route_v3.RouteConfiguration(name="here"))
    assert in_place.route_config.name == "here"
    assert not in_place.HasField("rds")


def test_what_is_given_is_taken() -> None:
    replies = http_connection_manager_v3.LocalReplyConfig()
    found = built(Side.OUTBOUND, longest_connection=timedelta(minutes=15), local_replies=replies, stat_prefix="out")
    assert found.common_http_protocol_options.max_connection_duration.ToTimedelta() == timedelta(minutes=15)
    assert found.HasField("local_reply_config")
    assert (found.stat_prefix, found.access_log[0].name) == ("out", "log")
    assert not built(Side.OUTBOUND).common_http_protocol_options.HasField("max_connection_duration")


@pytest.mark.parametrize("side", SIDES)
def test_websocket_passes_and_tunnels_only_where_told(side: Side) -> None:
    assert [one.upgrade_type for one in built(side).upgrade_configs] == ["websocket"]
    assert [one.upgrade_type for one in built(side, tunnels=True).upgrade_configs] == ["websocket", "CONNECT"]


def test_between_proxies_an_upgrade_is_an_extended_connect() -> None:
    allowed = {side: built(side).http2_protocol_options.allow_connect for side in SIDES}
    assert allowed == {Side.GATEWAY: True, Side.INBOUND: True, Side.OUTBOUND: False}
