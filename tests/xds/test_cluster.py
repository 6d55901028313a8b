from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.model.cluster import Protocol, Resolution, Service, ServicePolicy, ServicePort, Subset
from isthmus.model.credential import ClientCredential
from isthmus.model.traffic_policy import (
    CertificateFiles,
    ClientTls,
    ConnectionPool,
    H2Upgrade,
    LeveledPolicy,
    OutlierDetection,
    TlsMode,
    TrafficPolicy,
)
from isthmus.model.world import Address
from isthmus.xds.cluster import (
    build_black_hole,
    build_inbound,
    build_outbound,
    build_passthrough,
    tls_wanted,
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
    pool = ConnectionPool(connect_timeout=timedelta(seconds=3))
    everywhere = TrafficPolicy(connection_pool=pool, tls=ClientTls(tls_mode) if tls_mode is not TlsMode.AUTO else None)
    ports = {number: TrafficPolicy(tls=ClientTls(mode)) for number, mode in (by_port or {}).items()}
    policy = ServicePolicy(traffic=LeveledPolicy(everywhere, ports))
    return Service("orders.shop", "shop", (HTTP, GRPC, TCP), resolution, origin(), policy=policy, external=external)


def subset(mode: TlsMode | None = None) -> Subset:
    tls = ClientTls(mode) if mode is not None else None
    return Subset("v1", {"version": "v1"}, LeveledPolicy(TrafficPolicy(tls=tls)), origin())


def outside(tls: ClientTls, host: str = "api.example.com", port: ServicePort = HTTP, **more: Any) -> Any:
    """The cluster of a server outside the mesh; ``more``: the credential of the namespace, SANs of the service."""
    policy = ServicePolicy(traffic=LeveledPolicy(TrafficPolicy(tls=tls)))
    credential = more.pop("credential", None)
    asked = Service(host, "shop", (port,), Resolution.DNS, origin(), policy=policy, external=True, **more)
    return build_outbound(asked, port, None, (), credential)


def with_policy(policy: TrafficPolicy, *found: Backend, port: ServicePort = HTTP) -> Any:
    leveled = ServicePolicy(traffic=LeveledPolicy(policy))
    asked = Service("orders.shop", "shop", (port,), Resolution.WORKLOADS, origin(), policy=leveled)
    return build_outbound(asked, port, None, found)


def context(cluster: Any) -> Any:
    return unpack(cluster.transport_socket.typed_config)


def options(cluster: Any) -> Any:
    (packed,) = cluster.typed_extension_protocol_options.values()
    return unpack(packed)


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
    assert tls_wanted(asked, HTTP, subset(of_subset)).mode is expected
    if of_subset is None:
        assert tls_wanted(asked, HTTP, None).mode is expected


def test_a_ports_rule_is_for_that_port_alone() -> None:
    asked = service(TlsMode.ISTIO_MUTUAL, {80: TlsMode.DISABLE})
    assert tls_wanted(asked, GRPC, None).mode is TlsMode.ISTIO_MUTUAL


def test_mutual_tls_without_anybody_known_trusts_nobody() -> None:
    """Never plaintext: what was to be secured would go out in the open."""
    for found in ((), (backend(mutual_tls=False),), (backend(identity=None),)):
        built = build_outbound(service(TlsMode.ISTIO_MUTUAL), HTTP, None, found)
        assert identities(built.transport_socket) == ["spiffe://nobody.invalid/"]
        assert not built.transport_socket_matches


def test_a_revoked_identity_is_not_spoken_to_and_others_are() -> None:
    other = "spiffe://cluster.local/ns/shop/sa/other"
    found = (backend(), backend("192.0.2.2", identity=other))
    one = build_outbound(service(TlsMode.ISTIO_MUTUAL), HTTP, None, found, revoked={ORDERS})
    assert identities(one.transport_socket) == [other]
    both = build_outbound(service(TlsMode.ISTIO_MUTUAL), HTTP, None, found, revoked={ORDERS, other})
    assert identities(both.transport_socket) == ["spiffe://nobody.invalid/"]


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
    mixed = (backend(), backend("192.0.2.2", mutual_tls=False))
    assert alpn(build_outbound(service(), HTTP, None, mixed)) == ["istio-http/1.1", "http/1.1"]


@pytest.mark.parametrize(
    ("pool", "found", "expected"),
    [
        (ConnectionPool(h2_upgrade=H2Upgrade.DO_NOT_UPGRADE), (backend(),), "http_protocol_options"),
        (ConnectionPool(h2_upgrade=H2Upgrade.UPGRADE), (backend(mutual_tls=False),), "http2_protocol_options"),
        (ConnectionPool(use_client_protocol=True), (backend(),), "http2_protocol_options"),
        (ConnectionPool(use_client_protocol=True), (backend(), backend(mutual_tls=False)), "http_protocol_options"),
        (ConnectionPool(use_client_protocol=True), (backend(mutual_tls=False),), "None"),
    ],
)
def test_the_pool_says_which_http(pool: ConnectionPool, found: tuple[Backend, ...], expected: str) -> None:
    built = with_policy(TrafficPolicy(connection_pool=pool), *found)
    assert http_version(built) == expected
    assert options(built).HasField("use_downstream_protocol_config") is (expected == "None")


def test_origination_verifies_the_host_by_the_systems_roots() -> None:
    built = context(outside(ClientTls(TlsMode.SIMPLE)))
    assert built.sni == "api.example.com"
    combined = built.common_tls_context.combined_validation_context
    assert combined.validation_context_sds_secret_config.name == "file-root:system"
    assert [one.matcher.exact for one in combined.default_validation_context.match_typed_subject_alt_names] == [
        "api.example.com"
    ]
    assert not built.common_tls_context.tls_certificate_sds_secret_configs


def sds_names(built: Any) -> tuple[list[str], str]:
    common = built.common_tls_context
    roots = common.combined_validation_context.validation_context_sds_secret_config.name
    return [one.name for one in common.tls_certificate_sds_secret_configs], roots


def test_where_certificates_come_from() -> None:
    files = ClientTls(TlsMode.MUTUAL, ca_file="/c/ca", crl_file="/c/crl", certificate=CertificateFiles("/c/a", "/c/k"))
    assert sds_names(context(outside(files))) == (["file-cert:/c/a~/c/k"], "file-root:/c/ca~/c/crl")
    named = ClientTls(TlsMode.MUTUAL, credential="partner")
    held = ClientCredential("shop", "partner", "partner-cacert")
    assert sds_names(context(outside(named, credential=held))) == (
        ["credential:shop/partner"],
        "credential-ca:shop/partner-cacert",
    )


@pytest.mark.parametrize(
    "held", [None, ClientCredential("shop", "partner", None), ClientCredential("shop", None, "partner")]
)
def test_a_credential_that_lacks_something_is_no_plaintext(held: ClientCredential | None) -> None:
    built = outside(ClientTls(TlsMode.MUTUAL, credential="partner"), credential=held)
    assert identities(built.transport_socket) == ["spiffe://nobody.invalid/"]
    assert not context(built).common_tls_context.tls_certificate_sds_secret_configs


def test_the_names_that_a_certificate_must_have() -> None:
    tls = ClientTls(TlsMode.SIMPLE)
    assert identities(outside(tls, subject_alt_names=("other.example.com",)).transport_socket) == ["other.example.com"]
    written = ClientTls(TlsMode.SIMPLE, sni="sni.example.com", subject_alt_names=("a", "spiffe://b/c", "192.0.2.1"))
    built = context(outside(written, subject_alt_names=("other.example.com",)))
    assert built.sni == "sni.example.com"
    sans = built.common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    assert [(one.SanType.Name(one.san_type), one.matcher.exact) for one in sans] == [
        ("DNS", "a"),
        ("URI", "spiffe://b/c"),
        ("IP_ADDRESS", "192.0.2.1"),
    ]
    assert identities(outside(ClientTls(TlsMode.SIMPLE, sni="sni.example.com")).transport_socket) == ["sni.example.com"]


def test_behind_a_wildcard_each_request_names_its_server() -> None:
    built = outside(ClientTls(TlsMode.SIMPLE), "*.example.com")
    assert options(built).upstream_http_protocol_options.auto_sni
    assert options(built).upstream_http_protocol_options.auto_san_validation
    assert identities(built.transport_socket) == []
    assert context(built).sni == ""
    tcp = outside(ClientTls(TlsMode.SIMPLE), "*.example.com", TCP)
    assert identities(tcp.transport_socket) == ["spiffe://nobody.invalid/"]


def test_without_verification_there_is_no_validation_at_all() -> None:
    built = context(outside(ClientTls(TlsMode.SIMPLE, skip_verify=True)))
    assert built.common_tls_context.WhichOneof("validation_context_type") is None
    assert built.sni == "api.example.com"


def test_mutual_tls_of_the_mesh_takes_a_rules_names() -> None:
    tls = ClientTls(TlsMode.ISTIO_MUTUAL, sni="there", subject_alt_names=("spiffe://cluster.local/ns/x/sa/y",))
    built = with_policy(TrafficPolicy(tls=tls), backend())
    assert identities(built.transport_socket) == ["spiffe://cluster.local/ns/x/sa/y"]
    assert context(built).sni == "there"


def test_a_least_share_of_good_endpoints() -> None:
    built = with_policy(TrafficPolicy(outlier_detection=OutlierDetection(min_health_percent=40)), backend())
    assert built.common_lb_config.healthy_panic_threshold.value == 40
    assert built.outlier_detection.max_ejection_percent.value == 10


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
    assert not built.HasField("outlier_detection")
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
