"""Listeners: what a gateway opens, what stands before a program, and what a program calls through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    core_v3,
    listener_v3,
    network_set_filter_state_v3,
    protobuf,
    set_filter_state_common_v3,
    tcp_proxy_v3,
    tls_inspector_v3,
)
from isthmus.filters.ca_peer import CERTIFICATE_STATE
from isthmus.filters.peer import HANDSHAKE_STATE, PEER_STATE, SERIAL_STATE, build_ambiguous_peer_guard
from isthmus.model.gateway import ServerTls
from isthmus.model.traffic_policy import TrafficPolicy
from isthmus.model.world import Address, World
from isthmus.xds.address import socket_address
from isthmus.xds.handshake import SHUT_OUT, build_refusal, handshake_logs
from isthmus.xds.observe import Observed
from isthmus.xds.pool import add_tcp_options

_BUFFER_BYTES = 32768
_LONGEST_HANDSHAKE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Chain:
    """One filter chain: whom it takes (by TLS, ALPN, SNI) and what it does with them."""

    name: str
    filters: tuple[Any, ...]
    transport_socket: Any = None
    transport_protocol: str = ""
    alpn: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    """CIDRs of the address that the connection came to."""
    port: int = 0
    """The port that it came to, where the listener takes those of many; 0: any."""
    longest_handshake: timedelta | None = None
    """How long a client may take for TLS, from its connection on; None: ten seconds."""


def build_listener(
    name: str,
    address: Address,
    chains: Sequence[Chain],
    *,
    inbound: bool,
    unmatched_log: Any = None,
    shut_out: Sequence[str] = (),
) -> Any:
    """A listener on ``address``. Two Envoys would share a port without an error, were reuse_port on.

    ``unmatched_log`` tells of connections that no chain takes (an unknown server name), which are closed.
    ``shut_out``: networks whose connections are closed where TLS would begin.
    """
    built = _build(name, chains, unmatched_log, inbound=inbound)
    if any(chain.transport_socket is not None for chain in chains):
        built.access_log.extend(handshake_logs(name))
    if shut_out:
        built.filter_chains.extend(_refusing(built.filter_chains, shut_out))
    built.address.CopyFrom(socket_address(address))
    built.enable_reuse_port.CopyFrom(protobuf.BoolValue(value=False))
    return built


def build_internal_listener(name: str, chains: Sequence[Chain], unmatched_log: Any) -> Any:
    """A listener for connections that this Envoy makes to itself: it opens no port."""
    built = _build(name, chains, unmatched_log, inbound=False)
    built.internal_listener.SetInParent()
    # Envoy would close who says nothing for 15 seconds, which a connection kept for later does.
    built.listener_filters_timeout.CopyFrom(duration(timedelta()))
    return built


def _build(name: str, chains: Sequence[Chain], unmatched_log: Any, *, inbound: bool) -> Any:
    by_tls = any(chain.transport_protocol or chain.server_names or chain.alpn for chain in chains)
    return listener_v3.Listener(
        name=name,
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        traffic_direction=core_v3.TrafficDirection.Value("INBOUND" if inbound else "OUTBOUND"),
        listener_filters=[_tls_inspector()] if by_tls else [],
        filter_chains=[_build_chain(chain) for chain in _spread(chains)],
        access_log=[unmatched_log] if unmatched_log is not None else [],
    )


_Network = IPv4Network | IPv6Network
_EVERYWHERE: tuple[_Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def _spread(chains: Sequence[Chain]) -> Iterator[Chain]:
    """The same chains, each said for every subnet that it covers, where any of them has subnets at all.

    Envoy looks at the address first, at the narrowest subnet that has it, and never goes back: a chain for one subnet
    would hide all others there. Of chains for the same connections the first stays.
    """
    named = [ip_network(subnet, strict=False) for chain in chains for subnet in chain.subnets]
    known: list[_Network] = [*dict.fromkeys(named), *_EVERYWHERE]
    if not named or all(chain.port for chain in chains):
        # Chains for redirected connections name single services: none covers what is another's.
        yield from chains
        return
    taken: set[tuple[_Network, str]] = set()
    for chain in chains:
        own = [ip_network(subnet, strict=False) for subnet in chain.subnets] or list(_EVERYWHERE)
        for subnet in known:
            free = tuple(name for name in chain.server_names or ("",) if (subnet, name) not in taken)
            if free and any(_within(subnet, wider) for wider in own):
                taken.update((subnet, name) for name in free)
                names = tuple(filter(None, free))
                yield replace(chain, name=f"{chain.name}_{subnet}", server_names=names, subnets=(str(subnet),))


def _within(subnet: _Network, wider: _Network) -> bool:
    return subnet.version == wider.version and (subnet.network_address in wider and subnet.prefixlen >= wider.prefixlen)


def _build_chain(chain: Chain) -> Any:
    built = listener_v3.FilterChain(name=chain.name, filters=chain.filters)
    if chain.transport_protocol or chain.alpn or chain.server_names or chain.subnets or chain.port:
        built.filter_chain_match.CopyFrom(
            listener_v3.FilterChainMatch(
                prefix_ranges=[_cidr(subnet) for subnet in chain.subnets],
                transport_protocol=chain.transport_protocol,
                application_protocols=chain.alpn,
                server_names=[name for name in chain.server_names if name != "*"],
                destination_port=protobuf.UInt32Value(value=chain.port) if chain.port else None,
            )
        )
    if chain.transport_socket is not None:
        built.transport_socket.CopyFrom(chain.transport_socket)
    if chain.transport_socket is not None:
        # Without one, who begins a handshake and goes no further holds the connection for as long as he likes.
        built.transport_socket_connect_timeout.CopyFrom(duration(chain.longest_handshake or _LONGEST_HANDSHAKE))
    return built


def _refusing(chains: Iterable[Any], shut_out: Sequence[str]) -> Iterator[Any]:
    """Chains for the same connections as those with TLS, if they come from ``shut_out``.

    Envoy looks at the sender last of all, so that each of them stands behind the same address, names and protocols. No
    other chain changes: standing connections stay.
    """
    names: dict[bytes, set[str]] = {}
    matches: dict[bytes, Any] = {}
    for chain in chains:
        if not chain.HasField("transport_socket"):
            continue
        match = listener_v3.FilterChainMatch()
        match.CopyFrom(chain.filter_chain_match)
        match.ClearField("server_names")
        # A chain for any name hides none of those with names, nor the other way round.
        key = match.SerializeToString(deterministic=True) + (b"named" if chain.filter_chain_match.server_names else b"")
        matches[key] = match
        names.setdefault(key, set()).update(chain.filter_chain_match.server_names)
    for number, (key, match) in enumerate(matches.items()):
        match.server_names.extend(sorted(names[key]))
        match.direct_source_prefix_ranges.extend(_cidr(network) for network in shut_out)
        yield listener_v3.FilterChain(name=f"{SHUT_OUT}_{number}", filter_chain_match=match, filters=[build_refusal()])


def _cidr(written: str) -> Any:
    network = ip_network(written, strict=False)
    length = protobuf.UInt32Value(value=network.prefixlen)
    return core_v3.CidrRange(address_prefix=str(network.network_address), prefix_len=length)


def _tls_inspector() -> Any:
    return listener_v3.ListenerFilter(
        name="envoy.filters.listener.tls_inspector", typed_config=any_of(tls_inspector_v3.TlsInspector())
    )


def peer_filters(revoked: Set[int] = frozenset()) -> tuple[Any, ...]:
    """Keep the peer's identity from the handshake, and close a peer that has more than one, or that is a CA.

    ``revoked``: serial numbers of certificates that count no more. A new one is a new chain, whose predecessor's
    connections are ended.

    All URI SANs stand in one comma-joined value, so a certificate with two equals no single identity; Envoy's own
    RBAC principals would match any of them. Without ``skip_if_empty`` a plaintext peer would be called ``-``.
    """
    kept = [_said(PEER_STATE, "%DOWNSTREAM_PEER_URI_SAN%"), _said(CERTIFICATE_STATE, "%DOWNSTREAM_PEER_CERT%")]
    took = set_filter_state_common_v3.FilterStateValue(
        object_key=HANDSHAKE_STATE,
        factory_key="envoy.string",
        # At this moment: from the connection's beginning to its handshake's end.
        format_string=core_v3.SubstitutionFormatString(
            text_format_source=core_v3.DataSource(inline_string="%DURATION%")
        ),
    )
    config = network_set_filter_state_v3.Config(on_downstream_tls_handshake=[*kept, took])
    if revoked:
        config.on_downstream_tls_handshake.append(_said(SERIAL_STATE, "%DOWNSTREAM_PEER_SERIAL%"))
    keep = listener_v3.Filter(name="envoy.filters.network.set_filter_state", typed_config=any_of(config))
    return keep, build_ambiguous_peer_guard(revoked)


def revoked_clients(tls: ServerTls, world: World) -> frozenset[int]:
    """Serial numbers that count no more where clients show certificates; elsewhere no chain has to change for them."""
    return world.revoked_certificates if tls.mode.asks else frozenset()


def _said(key: str, of_peer: str) -> Any:
    """The FilterStateValue that keeps what the handshake says of the peer; of one that says nothing, nothing."""
    return set_filter_state_common_v3.FilterStateValue(
        object_key=key,
        factory_key="envoy.string",
        format_string=core_v3.SubstitutionFormatString(
            text_format_source=core_v3.DataSource(inline_string=of_peer), omit_empty_values=True
        ),
        skip_if_empty=True,
    )


def build_tcp_proxy(
    stat_prefix: str,
    shares: Sequence[tuple[str, int]],
    observed: Observed,
    traffic: TrafficPolicy | None = None,
    longest_connection: timedelta | None = None,
) -> Any:
    """Bytes to one of the clusters of ``shares``, chosen for the connection as a whole by their weights.

    ``traffic``: what DestinationRules say of it, as far as it is the connection's and not a cluster's.
    """
    config = tcp_proxy_v3.TcpProxy(
        stat_prefix=stat_prefix,
        access_log=observed.logs,
        access_log_options=tcp_proxy_v3.TcpProxy.TcpAccessLogOptions(flush_access_log_on_connected=True),
    )
    # Envoy takes no share of nothing.
    weighted = [(cluster, weight) for cluster, weight in shares if weight > 0] if len(shares) > 1 else list(shares)
    if len(weighted) == 1:
        config.cluster = weighted[0][0]
    else:
        share = tcp_proxy_v3.TcpProxy.WeightedCluster.ClusterWeight
        config.weighted_clusters.clusters.extend(share(name=cluster, weight=weight) for cluster, weight in weighted)
    if longest_connection is not None:
        config.max_downstream_connection_duration.CopyFrom(duration(longest_connection))
    if traffic is not None:
        add_tcp_options(config, traffic)
    return listener_v3.Filter(name="envoy.filters.network.tcp_proxy", typed_config=any_of(config))
