"""Certificates from Secrets, for the agent of the machine that needs them: FetchSecrets over mutual TLS.

A user's key travels on this channel alone: never in ADS, a log or a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc
import grpc.aio

from isthmus.control.control_plane import ControlPlane
from isthmus.control.roster import Roster
from isthmus.diag import Ref
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, discovery_v3, tls_v3
from isthmus.errors import SvidInvalid
from isthmus.identity.validate import peer_identity
from isthmus.kinds.secret import secret_bytes
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_SECRET = "credential:"  # noqa: S105 (a prefix of names)
_AUTHORITY = "credential-ca:"


class CredentialService:
    """Answers with those of the asked credentials that are planned for the caller's node, and no others."""

    def __init__(self, plane: ControlPlane, roster: Roster, clock: Callable[[], datetime]) -> None:
        self._plane = plane
        self._roster = roster
        self._clock = clock

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_unary_rpc_method_handler(
            self._fetch,
            request_deserializer=discovery_v3.DiscoveryRequest.FromString,
            response_serializer=discovery_v3.DiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"FetchSecrets": method})

    async def _fetch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
            caller = peer_identity(pem, self._clock())
        except SvidInvalid as invalid:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(invalid))
        if caller.node_name is None or caller.trust_domain != self._plane.mesh.settings.trust_domain:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{caller} is not a node")
        planned = {credential.name for credential in self._roster.credentials_of(caller.node_name or "")}
        found = [self._secret(name) for name in request.resource_names if name in planned]
        resources = [any_of(secret) for secret in found if secret is not None]
        return discovery_v3.DiscoveryResponse(type_url=request.type_url, resources=resources)

    def _secret(self, name: str) -> Any:
        """An envoy.extensions.transport_sockets.tls.v3.Secret; None if its bytes are not there."""
        if name.startswith(_AUTHORITY):
            authority = self._bytes(name.removeprefix(_AUTHORITY), CA_KEYS)
            if authority is None:
                return None
            context = tls_v3.CertificateValidationContext(trusted_ca=core_v3.DataSource(inline_bytes=authority))
            return tls_v3.Secret(name=name, validation_context=context)
        key = name.removeprefix(_SECRET)
        for chain_key, private_key in CERTIFICATE_KEYS:
            chain, private = self._bytes(key, (chain_key,)), self._bytes(key, (private_key,))
            if chain is not None and private is not None:
                certificate = tls_v3.TlsCertificate(
                    certificate_chain=core_v3.DataSource(inline_bytes=chain),
                    private_key=core_v3.DataSource(inline_bytes=private),
                )
                return tls_v3.Secret(name=name, tls_certificate=certificate)
        return None

    def _bytes(self, key: str, names: tuple[str, ...]) -> bytes | None:
        """The first of ``names`` that the Secret has; values that could not be used count as missing."""
        namespace, _, name = key.partition("/")
        compiled = self._plane.compiled.value
        resource = compiled.good.get(Ref("Secret", namespace, name)) if compiled is not None else None
        known = self._plane.mesh.secrets.get(key)
        if resource is None or known is None:
            return None
        usable = (secret_bytes(resource.root, wanted) for wanted in names if wanted in known.keys)
        return next((found for found in usable if found is not None), None)
