from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.model.cluster import Protocol, Resolution, Service, ServicePolicy, ServicePort, Subset, TlsMode
from isthmus.model.world import Address
from isthmus.xds.cluster import (
    build_black_hole,
    build_inbound,
    build_outbound,
    build_passthrough,
    mutual_tls_wanted,
)
from isthmus.xds.endpoint import Backend

from .making import origin

HTTP = ServicePort(80, "http", Protocol.HTTP)
GRPC = ServicePort(81, "grpc", Protocol.GRPC)
TCP = ServicePort(82, "tcp", Protocol.TCP)
ORDERS = "spiffe://cluster.local/ns/shop/sa/orders"


def service(
    tls_mode: TlsMode = TlsMode.AUTO,
    by_port: dict[int, TlsMode] | None = None,
    resolution: Resolution = Resolution.WORKLOADS,
    external: bool = False,
) -> Service:
    policy = ServicePolicy(tls_mode=tls_mode, port_tls_modes=by_port, connect_timeout=timedelta(seconds=3))
    return Service("orders.shop", "shop", (HTTP, GRPC, TCP), resolution, origin(), policy=policy, external=external)


def subset(mode: TlsMode | None = None) -> Subset:
    return Subset("v1", {"version": "v1"}, mode, origin())


def backend(host: str = "192.0.2.1", mutual_tls: bool = True, identity: str | None = ORDERS) -> Backend:
    return Backend(Address(host, 8080), mutual_tls, identity, 1, {})


def identities(socket: Any) -> list[str]:
    context: Any = unpack(socket.typed_config)
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    return [one.matcher.exact for one in validation.match_typed_subject_alt_names]


def http_version(cluster: Any) -> str | None:
    for packed in cluster.typed_extension_protocol_options.values():
        options: Any = unpack(packed)
        return str(options.explicit_http_config.WhichOneof("protocol_config"))
    return None


@pytest.mark.parametrize(
    ("of_subset", "by_port", "of_service", "external", "expected"),
    [
        (TlsMode.DISABLE, TlsMode.ISTIO_MUTUAL, TlsMode.ISTIO_MUTUAL, False, TlsMode.DISABLE),
        (None, TlsMode.DISABLE, TlsMode.ISTIO_MUTUAL, False, TlsMode.DISABLE),
        (None, None, TlsMode.ISTIO_MUTUAL, False, TlsMode.ISTIO_MUTUAL),
        (None, None, TlsMode.AUTO, False, TlsMode.AUTO),
        (None, None, TlsMode.AUTO, True, TlsMode.DISABLE),
        (None, None, TlsMode.ISTIO_MUTUAL, True, TlsMode.ISTIO_MUTUAL),
        (TlsMode.ISTIO_MUTUAL, None, TlsMode.AUTO, True, TlsMode.ISTIO_MUTUAL),
    ],
)
def test_the_most_specific_rule_decides_on_tls(
    of_subset: TlsMode | None, by_port: TlsMode | None, of_service: TlsMode, external: bool, expected: TlsMode
) -> None:
    ports = {80: by_port} if by_port is not None else None
    asked = service(of_service, ports, external=external)
    assert mutual_tls_wanted(asked, HTTP, subset(of_subset)) is expected
    if of_subset is None:
        assert mutual_tls_wanted(asked, HTTP, None) is expected


def test_a_ports_rule_is_for_that_port_alone() -> None:
    asked = service(TlsMode.ISTIO_MUTUAL, {80: TlsMode.DISABLE})
    assert mutual_tls_wanted(asked, GRPC, None) is TlsMode.ISTIO_MUTUAL


def test_mutual_tls_without_anybody_known_trusts_nobody() -> None:
    """Never plaintext: what was to be secured would go out in the open."""
    for found in ((), (backend(mutual_tls=False),), (backend(identity=None),)):
        built = build_outbound(service(TlsMode.ISTIO_MUTUAL), HTTP, None, found)
        assert identities(built.transport_socket) == ["spiffe://nobody.invalid/"]
        assert not built.transport_socket_matches


def test_mutual_tls_knows_whom_it_speaks_to() -> None:
    other = backend("192.0.2.2", identity="spiffe://cluster.local/ns/shop/sa/other")
    built = build_outbound(service(TlsMode.ISTIO_MUTUAL), HTTP, None, (other, backend(), backend("192.0.2.3")))
    assert identities(built.transport_socket) == [ORDERS, "spiffe://cluster.local/ns/shop/sa/other"]
    assert unpack(built.transport_socket.typed_config).sni == "outbound_.80_._.orders.shop"


def test_automatic_mutual_tls_is_by_endpoint() -> None:
    built = build_outbound(service(), HTTP, None, (backend(), backend("192.0.2.2", mutual_tls=False)))
    assert not built.HasField("transport_socket")
    secured, plain = built.transport_socket_matches
    assert dict(secured.match) == {"tlsMode": "istio"}
    assert identities(secured.transport_socket) == [ORDERS]
    assert (dict(plain.match), plain.transport_socket.name) == ({}, "envoy.transport_sockets.raw_buffer")


@pytest.mark.parametrize("mode", [TlsMode.DISABLE, TlsMode.AUTO])
def test_plaintext_where_none_takes_more_or_it_is_switched_off(mode: TlsMode) -> None:
    built = build_outbound(service(mode), HTTP, None, (backend(mutual_tls=mode is TlsMode.DISABLE),))
    assert not built.HasField("transport_socket")
    assert not built.transport_socket_matches


@pytest.mark.parametrize(
    ("port", "mode", "found", "expected"),
    [
        (HTTP, TlsMode.AUTO, (), "http_protocol_options"),
        (HTTP, TlsMode.AUTO, (backend(),), "http2_protocol_options"),
        (HTTP, TlsMode.AUTO, (backend(), backend(mutual_tls=False)), "http_protocol_options"),
        (HTTP, TlsMode.DISABLE, (backend(),), "http_protocol_options"),
        (HTTP, TlsMode.ISTIO_MUTUAL, (), "http2_protocol_options"),
        (GRPC, TlsMode.DISABLE, (backend(),), "http2_protocol_options"),
        (TCP, TlsMode.AUTO, (backend(),), None),
    ],
)
def test_h2_between_proxies(port: ServicePort, mode: TlsMode, found: tuple[Backend, ...], expected: str | None) -> None:
    assert http_version(build_outbound(service(mode), port, None, found)) == expected


def alpn(cluster: Any) -> list[str]:
    context: Any = unpack(cluster.transport_socket_matches[0].transport_socket.typed_config)
    return list(context.common_tls_context.alpn_protocols)


def test_alpn_tells_a_proxy_of_the_mesh() -> None:
    """By it the callee's PERMISSIVE listener knows whose TLS this is."""
    assert alpn(build_outbound(service(), HTTP, None, (backend(),))) == ["istio-h2", "h2"]
    assert alpn(build_outbound(service(), TCP, None, (backend(),))) == ["istio"]


@pytest.mark.parametrize(
    ("resolution", "host", "expected"),
    [
        (Resolution.WORKLOADS, "192.0.2.1", "EDS"),
        (Resolution.WORKLOADS, "orders.vm.example.com", "STRICT_DNS"),
        (Resolution.STATIC, "192.0.2.1", "STATIC"),
        (Resolution.DNS, "192.0.2.1", "STRICT_DNS"),
        (Resolution.DNS, "api.example.com", "STRICT_DNS"),
    ],
)
def test_where_endpoints_come_from(resolution: Resolution, host: str, expected: str) -> None:
    built = build_outbound(service(resolution=resolution), HTTP, None, (backend(host),))
    assert built.DiscoveryType.Name(built.type) == expected
    assert built.HasField("load_assignment") is (expected != "EDS")
    assert built.HasField("eds_cluster_config") is (expected == "EDS")


def test_names_and_settings() -> None:
    built = build_outbound(service(), HTTP, subset(), ())
    assert built.name == "outbound|80|v1|orders.shop"
    assert built.eds_cluster_config.service_name == built.name
    assert built.connect_timeout.ToTimedelta() == timedelta(seconds=3)
    assert built.lb_policy == built.LEAST_REQUEST
    assert built.common_lb_config.HasField("healthy_panic_threshold")
    assert built.common_lb_config.healthy_panic_threshold.value == 0


@pytest.mark.parametrize(
    "built",
    [
        build_outbound(service(), HTTP, None, ()),
        build_inbound(8080, Address("127.0.0.1", 8080), Protocol.HTTP),
        build_passthrough(),
    ],
    ids=lambda built: built.name,
)
def test_no_circuit_breaker_of_envoys_own(built: Any) -> None:
    (limits,) = built.circuit_breakers.thresholds
    fields = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    assert {getattr(limits, name).value for name in fields} == {2**32 - 1}


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (Protocol.HTTP, "http_protocol_options"),
        (Protocol.HTTP2, "http2_protocol_options"),
        (Protocol.GRPC, "http2_protocol_options"),
        (Protocol.TCP, None),
        (Protocol.TLS, None),
    ],
)
def test_a_program_is_spoken_to_as_its_services_say(protocol: Protocol, expected: str | None) -> None:
    built = build_inbound(8080, Address("127.0.0.1", 9080), protocol)
    assert (built.name, http_version(built)) == ("inbound|8080||", expected)
    endpoint = built.load_assignment.endpoints[0].lb_endpoints[0].endpoint
    assert endpoint.address.socket_address.port_value == 9080


def test_the_black_hole_has_nobody() -> None:
    assert not build_black_hole().load_assignment.endpoints
