"""Listeners: what a gateway opens, what stands before a program, and what a program calls through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    core_v3,
    listener_v3,
    network_set_filter_state_v3,
    protobuf,
    set_filter_state_common_v3,
    tcp_proxy_v3,
    tls_inspector_v3,
)
from isthmus.filters.peer import PEER_STATE, build_ambiguous_peer_guard
from isthmus.model.world import Address
from isthmus.xds.address import socket_address

_BUFFER_BYTES = 32768


@dataclass(frozen=True, slots=True)
class Chain:
    """One filter chain: whom it takes (by TLS, ALPN, SNI) and what it does with them."""

    name: str
    filters: tuple[Any, ...]
    transport_socket: Any = None
    transport_protocol: str = ""
    alpn: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()


def build_listener(name: str, address: Address, chains: Sequence[Chain], *, inbound: bool) -> Any:
    """A listener on ``address``. Two Envoys would share a port without an error, were reuse_port on."""
    by_tls = any(chain.transport_protocol or chain.server_names or chain.alpn for chain in chains)
    return listener_v3.Listener(
        name=name,
        address=socket_address(address),
        enable_reuse_port=protobuf.BoolValue(value=False),
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        traffic_direction=core_v3.TrafficDirection.Value("INBOUND" if inbound else "OUTBOUND"),
        listener_filters=[_tls_inspector()] if by_tls else [],
        filter_chains=[_build_chain(chain) for chain in chains],
    )


def _build_chain(chain: Chain) -> Any:
    built = listener_v3.FilterChain(name=chain.name, filters=chain.filters)
    if chain.transport_protocol or chain.alpn or chain.server_names:
        built.filter_chain_match.CopyFrom(
            listener_v3.FilterChainMatch(
                transport_protocol=chain.transport_protocol,
                application_protocols=chain.alpn,
                server_names=[name for name in chain.server_names if name != "*"],
            )
        )
    if chain.transport_socket is not None:
        built.transport_socket.CopyFrom(chain.transport_socket)
    return built


def _tls_inspector() -> Any:
    return listener_v3.ListenerFilter(
        name="envoy.filters.listener.tls_inspector", typed_config=any_of(tls_inspector_v3.TlsInspector())
    )


def peer_filters() -> tuple[Any, ...]:
    """Keep the peer's identity from the handshake, and close a peer that has more than one.

    All URI SANs stand in one comma-joined value, so a certificate with two equals no single identity; Envoy's own
    RBAC principals would match any of them. Without ``skip_if_empty`` a plaintext peer would be called ``-``.
    """
    value = set_filter_state_common_v3.FilterStateValue(
        object_key=PEER_STATE,
        factory_key="envoy.string",
        format_string=core_v3.SubstitutionFormatString(
            text_format_source=core_v3.DataSource(inline_string="%DOWNSTREAM_PEER_URI_SAN%"), omit_empty_values=True
        ),
        skip_if_empty=True,
    )
    config = network_set_filter_state_v3.Config(on_downstream_tls_handshake=[value])
    keep = listener_v3.Filter(name="envoy.filters.network.set_filter_state", typed_config=any_of(config))
    return keep, build_ambiguous_peer_guard()


def build_tcp_proxy(stat_prefix: str, cluster: str, access_log: Any) -> Any:
    """Bytes to ``cluster``."""
    config = tcp_proxy_v3.TcpProxy(stat_prefix=stat_prefix, cluster=cluster, access_log=[access_log])
    return listener_v3.Filter(name="envoy.filters.network.tcp_proxy", typed_config=any_of(config))
