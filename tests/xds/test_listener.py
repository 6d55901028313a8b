from __future__ import annotations

from typing import Any

import pytest

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import accesslog_v3, core_v3, listener_v3
from isthmus.model.world import Address
from isthmus.xds.listener import Chain, build_listener, build_tcp_proxy, peer_filters
from isthmus.xds.observe import Observed

HERE = Address("127.0.0.1", 8080)
FILTER = listener_v3.Filter(name="filter")


def built(*chains: Chain, inbound: bool = True) -> Any:
    return build_listener("listener", HERE, chains, inbound=inbound)


def test_no_other_envoy_can_share_the_port() -> None:
    found = built(Chain("c", (FILTER,)))
    assert found.HasField("enable_reuse_port")
    assert not found.enable_reuse_port.value
    assert found.address.socket_address.port_value == 8080
    assert found.per_connection_buffer_limit_bytes.value == 32768


@pytest.mark.parametrize(("inbound", "direction"), [(True, "INBOUND"), (False, "OUTBOUND")])
def test_direction(inbound: bool, direction: str) -> None:
    found = built(Chain("c", ()), inbound=inbound)
    assert core_v3.TrafficDirection.Name(found.traffic_direction) == direction


@pytest.mark.parametrize(
    ("chain", "inspected"),
    [
        (Chain("c", ()), False),
        (Chain("c", (), transport_protocol="tls"), True),
        (Chain("c", (), alpn=("istio",)), True),
        (Chain("c", (), server_names=("a.example.com",)), True),
    ],
)
def test_tls_is_inspected_where_it_decides(chain: Chain, inspected: bool) -> None:
    found = built(chain)
    assert bool(found.listener_filters) is inspected
    assert found.filter_chains[0].HasField("filter_chain_match") is inspected


def test_a_chains_match() -> None:
    socket = core_v3.TransportSocket(name="tls")
    chain = Chain("c", (FILTER,), socket, "tls", ("istio",), ("a.example.com", "*"))
    (found,) = built(chain).filter_chains
    assert list(found.filter_chain_match.server_names) == ["a.example.com"], 'Envoy has no "*": no name means any'
    assert list(found.filter_chain_match.application_protocols) == ["istio"]
    assert found.transport_socket == socket
    assert [one.name for one in found.filters] == ["filter"]


def test_the_peer_is_kept_from_the_handshake_and_an_ambiguous_one_closed() -> None:
    keep, guard = peer_filters()
    state: Any = unpack(keep.typed_config)
    value, certificate, took = state.on_downstream_tls_handshake
    assert took.object_key == "isthmus.handshake_ms"
    assert (certificate.object_key, certificate.skip_if_empty) == ("isthmus.peer_certificate", True)
    assert value.object_key == "isthmus.peer"
    assert value.skip_if_empty
    assert value.format_string.omit_empty_values
    assert value.format_string.text_format_source.inline_string == "%DOWNSTREAM_PEER_URI_SAN%"
    assert not state.on_new_connection, "nothing is known before the handshake"
    assert guard.name == "envoy.filters.network.rbac"


def test_bytes_to_a_cluster() -> None:
    proxy: Any = unpack(
        build_tcp_proxy("prefix", (("cluster", 1),), Observed((accesslog_v3.AccessLog(name="log"),))).typed_config
    )
    assert (proxy.stat_prefix, proxy.cluster, proxy.access_log[0].name) == ("prefix", "cluster", "log")


def test_subnets_are_those_of_the_address_that_was_called() -> None:
    found = built(Chain("c", (FILTER,), subnets=("10.1.2.3/8", "fd00::/8", "192.0.2.1")))
    assert [range_ for _, range_ in ranges(found)] == ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]
    assert not found.listener_filters


def ranges(listener: Any) -> list[tuple[str, str]]:
    """The beginning of each chain's name, and its subnet."""
    found = []
    for chain in listener.filter_chains:
        (only,) = chain.filter_chain_match.prefix_ranges
        found.append((chain.name.partition("_")[0], f"{only.address_prefix}/{only.prefix_len.value}"))
    return found


def test_a_chain_for_one_subnet_hides_no_other() -> None:
    """Envoy chooses by address first and does not go back; the first of those for the same connections stays."""
    named = Chain("named", (), transport_protocol="tls", server_names=("a.b",))
    chains = (
        Chain("narrow", (), transport_protocol="tls", server_names=("a.b",), subnets=("10.1.0.0/16",)),
        Chain("wide", (), transport_protocol="tls", server_names=("a.b", "c.d"), subnets=("10.0.0.0/8",)),
        named,
        Chain("rest", ()),
    )
    found = built(*chains)
    assert ranges(found) == [
        ("narrow", "10.1.0.0/16"),
        ("wide", "10.1.0.0/16"),
        ("wide", "10.0.0.0/8"),
        ("named", "0.0.0.0/0"),
        ("named", "::/0"),
        *(("rest", subnet) for subnet in ("10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "::/0")),
    ]
    assert [list(one.filter_chain_match.server_names) for one in found.filter_chains[:3]] == [
        ["a.b"],
        ["c.d"],
        ["a.b", "c.d"],
    ]
    assert len({one.name for one in found.filter_chains}) == len(found.filter_chains)
    assert [one.name for one in built(named).filter_chains] == ["named"]
