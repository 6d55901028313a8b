"""Clients whose certificate is revoked by OCSP are closed before a byte of HTTP is read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import core_v3, listener_v3, network_ext_authz_v3
from isthmus.model.gateway import ServerTls
from isthmus.model.ocsp_question import HEADER, OcspQuestion
from isthmus.model.revocation import ClientOcsp
from isthmus.model.world import World
from isthmus.xds.client_validation import client_roots_in_force
from isthmus.xds.secret import SDS_CLUSTER

STAT_PREFIX = "client_ocsp"
"""``ext_authz.client_ocsp.denied`` and so on."""
_GRACE = timedelta(seconds=1)
"""What the agent needs beside the responder's time."""


def client_ocsp_filters(tls: ServerTls, namespace: str, world: World) -> tuple[Any, ...]:
    """The network filter that a server wants before its connection manager, if any."""
    ocsp = tls.validation.ocsp
    return () if ocsp is None else (_client_ocsp_filter(ocsp, client_roots_in_force(tls, namespace, world)),)


def longest_connection(tls: ServerTls | None, world: World) -> timedelta | None:
    """How long connections live that a client certificate let in; None: as long as they like."""
    if tls is None or not tls.mode.asks:
        return None
    ocsp, longest = tls.validation.ocsp, world.svid_ttl / 4
    return longest if ocsp is None else min(longest, ocsp.max_age)


def _client_ocsp_filter(ocsp: ClientOcsp, authorities: str) -> Any:
    """It asks the agent of the own machine, on its SDS socket.

    ``authorities``: the secret with the client CAs. An agent that is away lets nobody in (``failure_mode_allow`` is
    false), and a control plane that is away is not asked.
    """
    service = core_v3.GrpcService(
        envoy_grpc=core_v3.GrpcService.EnvoyGrpc(cluster_name=SDS_CLUSTER),
        timeout=duration(ocsp.timeout + _GRACE),
        initial_metadata=[core_v3.HeaderValue(key=HEADER, value=OcspQuestion(authorities, ocsp).encode())],
    )
    config = network_ext_authz_v3.ExtAuthz(
        stat_prefix=STAT_PREFIX,
        grpc_service=service,
        transport_api_version=core_v3.ApiVersion.Value("V3"),
        include_peer_certificate=True,
        include_tls_session=True,
        send_tls_alert_on_denial=True,
    )
    return listener_v3.Filter(name="envoy.filters.network.ext_authz", typed_config=any_of(config))
