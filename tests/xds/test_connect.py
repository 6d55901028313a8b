from __future__ import annotations

from datetime import timedelta

from isthmus.envoy_api.packages import accesslog_v3
from isthmus.xds.connect import build_inner, connect_to, refuse_connect
from isthmus.xds.listener import Chain


def test_the_tunnel_ends_at_the_proxy() -> None:
    route = connect_to("cluster")
    assert route.match.HasField("connect_matcher")
    (upgrade,) = route.route.upgrade_configs
    assert upgrade.upgrade_type == "CONNECT"
    assert upgrade.HasField("connect_config"), "else CONNECT itself would be sent on"
    assert route.route.timeout.ToTimedelta() == timedelta(), "a tunnel is as long as its program wishes"


def test_a_refusal() -> None:
    route = refuse_connect(502, "no\n")
    assert route.match.HasField("connect_matcher")
    assert (route.direct_response.status, route.direct_response.body.inline_string) == (502, "no\n")


def test_a_listener_within_opens_no_port() -> None:
    log = accesslog_v3.AccessLog(name="log")
    listener, cluster = build_inner("inner", [Chain("c", (), transport_protocol="raw_buffer")], log)
    assert listener.HasField("internal_listener")
    assert not listener.HasField("address")
    assert listener.HasField("listener_filters_timeout"), "Envoy's own would close who says nothing for 15 seconds"
    assert listener.listener_filters_timeout.ToTimedelta() == timedelta()
    assert list(listener.access_log) == [log]
    (locality,) = cluster.load_assignment.endpoints
    (endpoint,) = locality.lb_endpoints
    assert endpoint.endpoint.address.envoy_internal_address.server_listener_name == listener.name
    assert cluster.circuit_breakers.thresholds[0].max_connections.value == 2**32 - 1
