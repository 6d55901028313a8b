"""Clusters: one per service port and subset, never per route."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    cluster_dynamic_forward_proxy_v3,
    cluster_v3,
    core_v3,
    protobuf,
    raw_buffer_v3,
    type_v3,
)
from isthmus.filters.dynamic_forward_proxy import DynamicForwardProxy, dns_cache
from isthmus.model.cluster import Protocol, Resolution, Service, ServicePort, Subset
from isthmus.model.credential import ClientCredential, find_client_credential
from isthmus.model.federation import TrustDomains
from isthmus.model.mesh import Mesh
from isthmus.model.proxy import Proxy
from isthmus.model.server_names import ServerNames
from isthmus.model.traffic_policy import ClientTls, ConnectionPool, H2Upgrade, TlsMode, TrafficPolicy
from isthmus.model.world import Address
from isthmus.xds import tls
from isthmus.xds.address import is_name
from isthmus.xds.endpoint import ISTIO, TLS_MODE, Backend, build_load_assignment
from isthmus.xds.load_balancer import add_load_balancer
from isthmus.xds.metadata import build_metadata, service_metadata
from isthmus.xds.name import BLACK_HOLE, PASSTHROUGH, inbound_cluster, outbound_cluster
from isthmus.xds.outlier import build_outlier_detection
from isthmus.xds.pool import add_connection_options, add_http_options, build_circuit_breakers

_BUFFER_BYTES = 32768
"""Envoy's edge advice: per connection, so that slow readers cannot fill memory."""


def tls_wanted(service: Service, port: ServicePort, subset: Subset | None) -> ClientTls:
    """What DestinationRules say of TLS; without a word of theirs, mutual TLS within the mesh."""
    written = service.traffic(port.number, subset).tls
    if written is not None:
        return written
    return ClientTls(TlsMode.DISABLE if service.external else TlsMode.AUTO)


def credential_wanted(
    mesh: Mesh, proxy: Proxy, service: Service, port: ServicePort, subset: Subset | None
) -> ClientCredential | None:
    """What the namespace of ``proxy`` has of the Secret that a DestinationRule names; None: it names none."""
    name = tls_wanted(service, port, subset).credential
    return find_client_credential(mesh.secrets, proxy.namespace, name) if name is not None else None


def build_outbound(
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    found: tuple[Backend, ...],
    credential: ClientCredential | None = None,
    trusted: TrustDomains | None = None,
    revoked: Set[str] = frozenset(),
) -> Any:
    """The cluster of callers: EDS for workloads, DNS or the endpoints in place otherwise.

    ``credential``: what the callers' namespace has of the Secret that the DestinationRule names, if it names one.
    ``trusted``: whose names servers may have; None: whatever the mesh's roots give. ``revoked``: whose they may not.
    """
    traffic = service.traffic(port.number, subset)
    pool = traffic.connection_pool or ConnectionPool()
    outlier = traffic.outlier_detection
    wanted = tls_wanted(service, port, subset)
    built = cluster_v3.Cluster(
        name=outbound_cluster(service.host, port.number, subset.name if subset else None),
        connect_timeout=duration(pool.connect_timeout),
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        circuit_breakers=build_circuit_breakers(traffic.connection_pool),
        common_lb_config=cluster_v3.Cluster.CommonLbConfig(
            healthy_panic_threshold=_percent(outlier.min_health_percent if outlier is not None else 0)
        ),
    )
    built.metadata.CopyFrom(service_metadata(service, port))
    add_load_balancer(built, traffic.load_balancer)
    add_connection_options(built, pool.keepalive)
    if outlier is not None:
        built.outlier_detection.CopyFrom(build_outlier_detection(outlier))
    speech = _speech(port.protocol, pool, wanted.mode, found)
    names = ServerNames.of(service, wanted)
    if port.protocol.is_http:
        add_http_options(
            built, traffic, http2=speech.http2, as_client=speech.as_client, sni=names.of_request(port.protocol)
        )
    _add_endpoints(built, service, found)
    if wanted.mode.is_origination:
        built.transport_socket.CopyFrom(_origination(names, port.protocol, speech, credential))
    else:
        sni = wanted.sni or f"outbound_.{port.number}_._.{service.host}"
        _add_security(built, wanted, service.subject_alt_names, found, sni, speech.mesh_alpn, trusted, revoked)
    return built


@dataclass(frozen=True, slots=True)
class _Speech:
    """Which version of HTTP a cluster speaks, if any."""

    http: bool
    http2: bool
    as_client: bool

    @property
    def mesh_alpn(self) -> tuple[str, ...]:
        """The first tells a proxy of the mesh; the second is what the other proxy chooses."""
        if not self.http:
            return ("istio",)
        return ("istio-h2", "h2") if self.http2 else ("istio-http/1.1", "http/1.1")

    @property
    def alpn(self) -> tuple[str, ...]:
        """Towards a server outside. None for the client's own version: Envoy asks for what it is about to speak."""
        if not self.http or self.as_client:
            return ()
        return ("h2",) if self.http2 else ("http/1.1",)


def _speech(protocol: Protocol, pool: ConnectionPool, mode: TlsMode, found: tuple[Backend, ...]) -> _Speech:
    """HTTP/2 between proxies. The caller's own version only where no endpoint has a proxy: its ALPN is one for all."""
    meshed = mode is TlsMode.ISTIO_MUTUAL or (
        mode is TlsMode.AUTO and bool(found) and all(backend.mutual_tls for backend in found)
    )
    partly = mode is TlsMode.AUTO and any(backend.mutual_tls for backend in found)
    http2 = protocol.is_http2 or (meshed and pool.h2_upgrade is not H2Upgrade.DO_NOT_UPGRADE)
    return _Speech(
        http=protocol.is_http,
        http2=http2 or pool.h2_upgrade is H2Upgrade.UPGRADE,
        as_client=pool.use_client_protocol and not meshed and not partly,
    )


def _origination(names: ServerNames, protocol: Protocol, speech: _Speech, credential: ClientCredential | None) -> Any:
    """TLS to a server outside the mesh. What cannot be verified as the rule says is not connected to."""
    wanted = names.tls
    lacking = wanted.credential is not None and (
        credential is None or not credential.serves(wanted.mode is TlsMode.MUTUAL, verify=not wanted.skip_verify)
    )
    if lacking or (not names.verifiable(protocol) and not wanted.skip_verify):
        return tls.nobody(names.sni or "")
    return tls.client(wanted, names.sni or "", names.certified, speech.alpn, credential)


def _add_endpoints(built: Any, service: Service, found: tuple[Backend, ...]) -> None:
    # Workloads elsewhere may be declared by name, and EDS takes addresses only.
    named = any(is_name(backend.address.host) for backend in found)
    if service.resolution is Resolution.WORKLOADS and not named:
        built.type = cluster_v3.Cluster.EDS
        built.eds_cluster_config.CopyFrom(
            cluster_v3.Cluster.EdsClusterConfig(eds_config=ads(), service_name=built.name)
        )
        return
    if service.resolution is Resolution.DNS_ROUND_ROBIN:
        built.type = cluster_v3.Cluster.LOGICAL_DNS
        built.dns_lookup_family = cluster_v3.Cluster.V4_PREFERRED
    elif named or service.resolution.is_dns:
        built.type = cluster_v3.Cluster.STRICT_DNS
        # Envoy's own choice is the other way round: whoever listens on IPv4 only could not be reached by name.
        built.dns_lookup_family = cluster_v3.Cluster.V4_PREFERRED
    else:
        built.type = cluster_v3.Cluster.STATIC
    built.load_assignment.CopyFrom(build_load_assignment(built.name, found))


def _add_security(
    built: Any,
    wanted: ClientTls,
    declared: tuple[str, ...],
    found: tuple[Backend, ...],
    sni: str,
    alpn: tuple[str, ...],
    trusted: TrustDomains | None,
    revoked: Set[str],
) -> None:
    """Mutual TLS for all, for none, or endpoint by endpoint (Istio's auto mTLS)."""
    mode = wanted.mode
    behind = tuple(sorted({backend.identity for backend in found if backend.mutual_tls and backend.identity}))
    identities = wanted.subject_alt_names or declared or behind
    if trusted is not None:
        identities = trusted.in_all_own(identities)
    if mode is TlsMode.DISABLE or not identities:
        # ISTIO_MUTUAL without a known identity must not fall back to plaintext: nobody is who is meant.
        if mode is TlsMode.ISTIO_MUTUAL:
            built.transport_socket.CopyFrom(tls.mesh_client([tls.NOBODY], sni, alpn))
        return
    identities = tuple(one for one in identities if one not in revoked) or (tls.NOBODY,)
    secured = tls.mesh_client(identities, sni, alpn, trusted)
    if mode is TlsMode.ISTIO_MUTUAL:
        built.transport_socket.CopyFrom(secured)
        return
    istio = protobuf.Struct()
    istio.update({TLS_MODE: ISTIO})
    match = cluster_v3.Cluster.TransportSocketMatch
    plain = core_v3.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=any_of(raw_buffer_v3.RawBuffer())
    )
    built.transport_socket_matches.extend(
        [
            match(name="tlsMode-istio", match=istio, transport_socket=secured),
            match(name="tlsMode-disabled", match=protobuf.Struct(), transport_socket=plain),
        ]
    )


def build_inbound(port: int, app: Address, protocol: Protocol) -> Any:
    """The program behind a sidecar."""
    name = inbound_cluster(port)
    built = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=10)),
        per_connection_buffer_limit_bytes=protobuf.UInt32Value(value=_BUFFER_BYTES),
        circuit_breakers=build_circuit_breakers(None),
        load_assignment=build_load_assignment(name, (Backend(app, False, None, 1, {}),)),
    )
    if protocol.is_http:
        add_http_options(built, TrafficPolicy(), http2=protocol.is_http2)
    return built


def build_black_hole() -> Any:
    """A cluster without endpoints."""
    return cluster_v3.Cluster(
        name=BLACK_HOLE,
        type=cluster_v3.Cluster.STATIC,
        connect_timeout=duration(timedelta(seconds=1)),
        load_assignment=build_load_assignment(BLACK_HOLE, ()),
    )


def build_passthrough() -> Any:
    """Whatever host the program itself names, resolved when asked for."""
    config = cluster_dynamic_forward_proxy_v3.ClusterConfig(dns_cache_config=dns_cache(DynamicForwardProxy()))
    return cluster_v3.Cluster(
        name=PASSTHROUGH,
        metadata=build_metadata({"name": PASSTHROUGH}),
        connect_timeout=duration(timedelta(seconds=10)),
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
        cluster_type=cluster_v3.Cluster.CustomClusterType(
            name="envoy.clusters.dynamic_forward_proxy", typed_config=any_of(config)
        ),
        circuit_breakers=build_circuit_breakers(None),
    )


def _percent(value: float) -> Any:
    return type_v3.Percent(value=value)


def ads() -> Any:
    """The config source that means: on the stream that this came by."""
    return core_v3.ConfigSource(
        ads=core_v3.AggregatedConfigSource(), resource_api_version=core_v3.ApiVersion.Value("V3")
    )
