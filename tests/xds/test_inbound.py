from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from isthmus.control.offline import offline_world
from isthmus.envoy_api import unpack
from isthmus.model.world import World
from isthmus.xds.inbound import app_address
from isthmus.xds.snapshot import LISTENER, message
from isthmus.xds.tls import ISTIO_ALPN

from .making import compiled, context_of, entry, given, given_by, hcm_of, networking, security, service

ORDERS = "sidecar~shop~orders-1"


def peer(mode: str) -> str:
    return security("PeerAuthentication", "default", f"{{mtls: {{mode: {mode}}}}}")


def local(ports: str) -> str:
    text = networking("LocalWorkload", "orders-1", f"{{labels: {{app: orders}}, ports: [{ports}]}}")
    return text.replace("networking.istio.io/v1", "isthmus.dev/v1alpha1")


def chains(*texts: str, port: int = 8080) -> dict[str, Any]:
    found = given_by(ORDERS, *texts).listener(f"inbound_{port}")
    return {chain.name: chain for chain in found.filter_chains}


def filters(chain: Any) -> list[str]:
    return [one.name.rpartition(".")[2] for one in chain.filters]


GUARD = ["set_filter_state", "rbac"]
HTTP = "http_connection_manager"


def test_strict_takes_mutual_tls_alone() -> None:
    found = chains(service("orders"), entry("orders-1"), peer("STRICT"))
    assert list(found) == ["mutual_tls_8080"]
    chain = found["mutual_tls_8080"]
    assert chain.filter_chain_match.transport_protocol == "tls"
    assert not chain.filter_chain_match.application_protocols, "whatever ALPN a client offers"
    assert chain.HasField("transport_socket")
    assert filters(chain) == [*GUARD, HTTP]


def test_permissive_takes_plaintext_and_foreign_tls_beside_it() -> None:
    found = chains(service("orders"), entry("orders-1"))
    assert list(found) == ["mutual_tls_8080", "plaintext_8080", "foreign_tls_8080"]
    secured, plain, foreign = found.values()
    assert list(secured.filter_chain_match.application_protocols) == list(ISTIO_ALPN)
    assert plain.filter_chain_match.transport_protocol == "raw_buffer"
    assert filters(plain) == [HTTP]
    assert filters(foreign) == ["tcp_proxy"]
    assert not foreign.HasField("transport_socket")


def test_disabled_takes_plaintext_alone() -> None:
    found = chains(service("orders"), entry("orders-1"), peer("DISABLE"))
    assert list(found) == ["plaintext_8080"]
    assert not found["plaintext_8080"].HasField("filter_chain_match")


def test_foreign_tls_stands_under_what_tcp_can_answer() -> None:
    """A policy that needs HTTP must not be passed by with TLS that is not looked into."""
    token = security("AuthorizationPolicy", "tokens", "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")
    foreign = chains(service("orders"), entry("orders-1"), token)["foreign_tls_8080"]
    assert filters(foreign) == ["rbac", "tcp_proxy"]
    allow: Any = unpack(foreign.filters[0].typed_config)
    assert not allow.rules.policies, "an ALLOW without a rule allows nobody"


def test_a_tcp_port_has_no_http() -> None:
    found = chains(service("orders", "{name: tcp, port: 9090}"), entry("orders-1"), peer("STRICT"), port=9090)
    (chain,) = found.values()
    assert filters(chain) == [*GUARD, "tcp_proxy"]
    context: Any = unpack(chain.transport_socket.typed_config)
    assert list(context.common_tls_context.alpn_protocols) == ["istio"]


def test_a_port_that_no_service_speaks_of_is_http() -> None:
    found = chains(local("{name: tcp-like, number: 9090}"), peer("STRICT"), port=9090)
    assert filters(found["mutual_tls_9090"]) == [*GUARD, HTTP]


@pytest.mark.parametrize(("value", "matches"), [("127.0.0.1", True), ("127.0.0.0/8", True), ("192.0.2.1", False)])
@pytest.mark.parametrize("port", ["{name: tcp, port: 9090}", "{name: http, port: 9090}"])
def test_the_address_behind_the_listener_is_what_policies_mean(port: str, value: str, matches: bool) -> None:
    deny = security(
        "AuthorizationPolicy",
        "there",
        f"action: DENY\nrules: [{{when: [{{key: destination.ip, values: ['{value}']}}]}}]",
    )
    snapshot = given_by(ORDERS, service("orders", port), entry("orders-1"), peer("STRICT"), deny).snapshot
    # Of HTTP in the extension, of TCP in the listener.
    built = (one for of_type in snapshot.resources.values() for one in of_type.values())
    denying = any(b"policy[there]-rule" in one.wire for one in built)
    assert denying is matches


def test_where_the_program_itself_listens() -> None:
    mesh = compiled(local("{name: http, number: 8080}, {name: fixed, number: 8081, listen: 9081}")).mesh
    context = context_of(mesh, ORDERS)
    (workload,) = mesh.workloads
    free, fixed = workload.ports
    assert app_address(context, workload, free) == offline_world(mesh).address(ORDERS, "app", 8080)
    assert str(app_address(context, workload, fixed)) == "127.0.0.1:9081"
    assert app_address(replace(context, world=World()), workload, free) is None


def test_a_port_whose_program_has_no_address_yet_is_left_out() -> None:
    mesh = compiled(local("{name: http, number: 8080}")).mesh
    world = offline_world(mesh)
    without = {key: address for key, address in world.addresses.items() if key.purpose != "app"}
    assert "inbound_8080" in given(mesh, ORDERS).names(LISTENER)
    assert "inbound_8080" not in given(mesh, ORDERS, replace(world, addresses=without)).names(LISTENER)


def test_connections_live_a_quarter_of_a_certificate() -> None:
    mesh = compiled(service("orders"), entry("orders-1"), peer("STRICT")).mesh
    world = replace(offline_world(mesh), svid_ttl=timedelta(minutes=2))
    (chain,) = given(mesh, ORDERS, world).listener("inbound_8080").filter_chains
    longest = hcm_of(chain).common_http_protocol_options.max_connection_duration
    assert longest.ToTimedelta() == timedelta(seconds=30)


def test_headers_of_its_own_token_rules_alone_are_taken_away() -> None:
    """The gateway before it may have set others."""
    rules = [
        security(
            "RequestAuthentication",
            app,
            f"selector: {{matchLabels: {{app: {app}}}}}\n"
            f"jwtRules: [{{issuer: https://one.example.com, outputPayloadToHeader: x-{app}}}]",
        )
        for app in ("orders", "users")
    ]
    (chain,) = chains(service("orders"), entry("orders-1"), peer("STRICT"), *rules).values()
    (extension,) = hcm_of(chain).early_header_mutation_extensions
    mutations: Any = unpack(extension.typed_config)
    assert [one.remove for one in mutations.mutations] == ["x-orders", "x_orders", "x-envoy-original-path"]


def test_the_mode_is_told_among_the_origins() -> None:
    built = given_by(ORDERS, service("orders"), entry("orders-1"), peer("STRICT")).snapshot.of(LISTENER)["inbound_8080"]
    assert [one.ref.kind for one in built.origins] == ["WorkloadEntry", "PeerAuthentication"]
    assert message(built).name == "inbound_8080"
