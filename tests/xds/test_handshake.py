from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import core_v3, listener_v3
from isthmus.model.handshake import REASONS
from isthmus.model.metric import HANDSHAKE_DURATION, HANDSHAKE_FAILURES, SHUT_OUT_CONNECTIONS
from isthmus.model.world import Address
from isthmus.xds.handshake import TELLING, handshake_logs
from isthmus.xds.listener import Chain, build_listener

TLS = core_v3.TransportSocket(name="tls")


def built(*chains: Chain, shut_out: tuple[str, ...] = ()) -> Any:
    return build_listener("gateway_443", Address("127.0.0.1", 8443), chains, inbound=True, shut_out=shut_out)


def counted(log: Any) -> list[str]:
    config: Any = unpack(log.typed_config)
    return [one.stat.name for one in (*config.counters, *config.histograms)]


def test_what_a_listener_with_tls_tells() -> None:
    telling, *counting = handshake_logs("gateway_443")
    assert telling.name == TELLING
    common: Any = unpack(telling.typed_config)
    assert common.common_config.log_name == "gateway_443"
    assert [counted(log) for log in counting] == [
        [HANDSHAKE_FAILURES.name],
        [HANDSHAKE_DURATION.name],
        [SHUT_OUT_CONNECTIONS.name],
    ]
    assert all(log.HasField("filter") for log in (telling, *counting))


def test_the_label_of_a_reason_is_one_of_ours() -> None:
    config: Any = unpack(handshake_logs("l")[1].typed_config)
    (counter,) = config.counters
    listener, reason = counter.stat.tags
    assert (listener.name, listener.value_format) == ("listener", "l")
    rules = reason.rules
    words = [one.predicate.single_predicate.value_match.contains for one in rules.matcher_list.matchers]
    assert words == [word for known in REASONS for word in known.words]
    last: Any = unpack(rules.on_no_match.action.typed_config)
    assert last.update_tag.new_tag_value == REASONS[-1].code


def test_a_listener_without_tls_tells_nothing() -> None:
    assert not built(Chain("c", ())).access_log
    assert len(built(Chain("c", (), TLS, "tls")).access_log) == 4


def test_a_handshake_has_to_end() -> None:
    plain, secured = built(Chain("p", (), transport_protocol="raw_buffer"), Chain("c", (), TLS, "tls")).filter_chains
    assert not plain.HasField("transport_socket_connect_timeout")
    assert secured.transport_socket_connect_timeout.seconds == 10


def test_who_is_shut_out_meets_other_chains_and_nothing_else_changes() -> None:
    chains = (
        Chain("a", (), TLS, "tls", server_names=("a.example.com",)),
        Chain("b", (), TLS, "tls", server_names=("b.example.com", "*.b.example.com")),
        Chain("any", (), TLS, "tls"),
        Chain("istio", (), TLS, "tls", alpn=("istio",)),
        Chain("passed", (), transport_protocol="tls", server_names=("c.example.com",)),
        Chain("plain", (), transport_protocol="raw_buffer"),
    )
    before, after = built(*chains), built(*chains, shut_out=("192.0.2.7/32", "2001:db8::/64"))
    kept = after.filter_chains[: len(before.filter_chains)]
    assert list(kept) == list(before.filter_chains)
    added = after.filter_chains[len(before.filter_chains) :]
    names = [sorted(one.filter_chain_match.server_names) for one in added]
    assert names == [["*.b.example.com", "a.example.com", "b.example.com"], [], []]
    assert [list(one.filter_chain_match.application_protocols) for one in added] == [[], [], ["istio"]]
    for one in added:
        ranges = one.filter_chain_match.direct_source_prefix_ranges
        assert [(each.address_prefix, each.prefix_len.value) for each in ranges] == [
            ("192.0.2.7", 32),
            ("2001:db8::", 64),
        ]
        assert not one.HasField("transport_socket")
        assert [each.name for each in one.filters] == ["envoy.filters.network.direct_response"]
    # Envoy replaces a listener that changes in anything else, and closes its connections.
    after.ClearField("filter_chains")
    before.ClearField("filter_chains")
    assert after == before


def test_a_chain_of_one_name_stands_behind_the_same_address() -> None:
    chain = Chain("a", (), TLS, "tls", server_names=("a.example.com",), subnets=("10.0.0.0/8",))
    found = built(chain, shut_out=("192.0.2.7/32",)).filter_chains
    matches = [listener_v3.FilterChainMatch.FromString(one.filter_chain_match.SerializeToString()) for one in found]
    assert [len(match.prefix_ranges) for match in matches] == [1, 1]
    assert matches[0].prefix_ranges == matches[1].prefix_ranges
