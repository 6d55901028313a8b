"""The agent's side of the control plane: certificates and gateways' secrets over gRPC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import discovery_v3
from isthmus.errors import CsrRejected, IsthmusError, NotEnrolled, Unreachable
from isthmus.identity.authority import control_plane_dns_name
from isthmus.identity.jwt_server import FETCH_PATH as FETCH_JWT_PATH
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.wire import (
    CONFIRM_TRUST_PATH,
    CREATE_CERTIFICATE_PATH,
    CertificateRequest,
    CertificateResponse,
)
from isthmus.identity.workload_wire import message
from isthmus.model.world import Address
from isthmus.proxy.credential import Certificate
from isthmus.proxy.sds import SERVICE
from isthmus.proxy.sds_stream import SECRET_TYPE

_DEADLINE_SECONDS = 10.0
OPTIONS = (
    # A channel of the control plane never goes by the proxy that `http_proxy` names.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class Issuer:
    """One channel to the control plane. Each call raises Unreachable, NotEnrolled or CsrRejected."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._create = channel.unary_unary(CREATE_CERTIFICATE_PATH)
        self._fetch_jwt = channel.unary_unary(
            FETCH_JWT_PATH,
            request_serializer=message("JWTSVIDRequest").SerializeToString,
            response_deserializer=message("JWTSVIDResponse").FromString,
        )
        self._confirm = channel.unary_unary(CONFIRM_TRUST_PATH)
        self._fetch = channel.unary_unary(
            f"/{SERVICE}/FetchSecrets",
            request_serializer=discovery_v3.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DiscoveryResponse.FromString,
        )

    async def enrol(self, csr_pem: str, ttl: timedelta, token: str) -> list[str]:
        """Certify a node that shows its one-use join token. Any refusal is NotEnrolled."""
        metadata = (("authorization", f"Bearer {token}"),)
        try:
            return await self._certify(CertificateRequest(csr_pem, _seconds(ttl)), metadata)
        except CsrRejected as refused:
            raise NotEnrolled(str(refused)) from refused

    async def renew(self, csr_pem: str, ttl: timedelta) -> list[str]:
        """Certify the node that this channel belongs to again."""
        return await self._certify(CertificateRequest(csr_pem, _seconds(ttl)))

    async def certify_identity(self, csr_pem: str, ttl: timedelta, uri: str) -> list[str]:
        """Certify one of the node's proxies. Leaf first, root last, PEM."""
        return await self._certify(CertificateRequest(csr_pem, _seconds(ttl), impersonated_identity=uri))

    async def certify_hosts(self, csr_pem: str, ttl: timedelta, dns_names: Sequence[str]) -> list[str]:
        """A development certificate for a gateway of this node."""
        return await self._certify(CertificateRequest(csr_pem, _seconds(ttl), server_names=tuple(dns_names)))

    async def fetch_jwt(self, uri: str, audiences: Sequence[str]) -> str:
        """A JWT-SVID of one of the node's workloads."""
        request = message("JWTSVIDRequest")(spiffe_id=uri, audience=audiences)
        try:
            response = await self._fetch_jwt(request, timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as failed:
            raise _reason(failed) from failed
        if not response.svids:
            raise Unreachable("the control plane's answer has no JWT-SVID")
        token: str = response.svids[0].svid
        return token

    async def fetch(self, names: Iterable[str]) -> dict[str, Any]:
        """Secrets (google.protobuf.Any) by name; those that the control plane does not have are missing."""
        request = discovery_v3.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=list(names))
        try:
            response = await self._fetch(request, timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as failed:
            raise _reason(failed) from failed
        secrets = ((unpack(packed), packed) for packed in response.resources)
        return {secret.name: packed for secret, packed in secrets}  # type: ignore[attr-defined]

    async def confirm_trust(self, version: str) -> None:
        """Tell that every proxy of this node trusts what the plan of this version of its trust says."""
        try:
            await self._confirm(version.encode(), timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as failed:
            raise _reason(failed) from failed

    async def close(self) -> None:
        """End the channel; what is under way may end first."""
        await self._channel.close(grace=5)

    async def _certify(self, request: CertificateRequest, metadata: tuple[tuple[str, str], ...] = ()) -> list[str]:
        try:
            answer = await self._create(request.encode(), metadata=metadata, timeout=_DEADLINE_SECONDS)
            return list(CertificateResponse.decode(answer).cert_chain)
        except grpc.aio.AioRpcError as failed:
            raise _reason(failed) from failed
        except DecodeError as broken:
            raise Unreachable("the control plane's answer cannot be read") from broken


def _seconds(ttl: timedelta) -> int:
    return int(ttl.total_seconds())


def _reason(failed: Any) -> IsthmusError:
    code, details = failed.code(), failed.details() or ""
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return NotEnrolled(details)
    if code is grpc.StatusCode.UNAVAILABLE and "CERTIFICATE_VERIFY_FAILED" in details:
        return NotEnrolled("the control plane has another root than the one this node was enrolled under")
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT):
        return CsrRejected(details)
    return Unreachable(f"{code.name}: {details}")


def enrolment_issuer(socket: str) -> Issuer:
    """Over the control plane's own Unix socket, for the first certificate of a node."""
    return Issuer(grpc.aio.insecure_channel(f"unix:{socket}", options=OPTIONS))


def node_issuer(address: Address, control_plane_id: str, node: Certificate, roots: bytes) -> Issuer:
    """Over mutual TLS with the node's own certificate. ``roots``: what the control plane is to be certified by, PEM.

    gRPC in Python can compare nothing but a DNS name: the control plane's certificate has one that the authority gives
    to nobody else (:func:`isthmus.identity.authority.control_plane_dns_name`).
    """
    credentials = grpc.ssl_channel_credentials(roots, node.key_pem, node.chain)
    name = control_plane_dns_name(SpiffeId.parse(control_plane_id))
    options = (*OPTIONS, ("grpc.ssl_target_name_override", name))
    return Issuer(grpc.aio.secure_channel(str(address), credentials, options=options))
