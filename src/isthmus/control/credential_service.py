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
from isthmus.control.oidc import LoginSecrets
from isthmus.control.roster import Roster
from isthmus.control.secret_value import secret_value
from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import core_v3, discovery_v3, tls_v3
from isthmus.errors import NotEnrolled, SvidInvalid
from isthmus.identity.material import are_among
from isthmus.identity.validate import peer_identity
from isthmus.model.credential import CA_KEYS, CERTIFICATE_KEYS, CRL_KEYS
from isthmus.model.revocation import ClientCrls
from isthmus.proxy.plan import own_roots
from isthmus.xds.secret import LOGIN_COOKIE_KEY, LOGIN_SECRET, fetched_crls_name, without_crls

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_SECRET = "credential:"  # noqa: S105 (a prefix of names)
_AUTHORITY = "credential-ca:"


class CredentialService:
    """Answers with those of the asked credentials that are planned for the caller's node, and no others."""

    def __init__(
        self,
        plane: ControlPlane,
        roster: Roster,
        clock: Callable[[], datetime],
        logins: LoginSecrets | None = None,
    ) -> None:
        self._logins = logins
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
            self._roster.check_node(caller.node_name or "", pem)
        except (SvidInvalid, NotEnrolled) as invalid:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(invalid))
        if caller.node_name is None or caller.trust_domain != self._plane.mesh.settings.trust_domain:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{caller} is not a node")
        planned = self._roster.credential_names(caller.node_name or "")
        found = [self.secret(name) for name in request.resource_names if name in planned]
        resources = [any_of(secret) for secret in found if secret is not None]
        return discovery_v3.DiscoveryResponse(type_url=request.type_url, resources=resources)

    def secret(self, name: str) -> Any:
        """An envoy.extensions.transport_sockets.tls.v3.Secret; None if its bytes are not there."""
        if name.startswith(_AUTHORITY):
            return self._authority(name)
        if name.startswith((LOGIN_SECRET, LOGIN_COOKIE_KEY)):
            return self._of_login(name)
        key = name.removeprefix(_SECRET)
        for chain_key, private_key in CERTIFICATE_KEYS:
            chain, private = self._bytes(key, (chain_key,)), self._bytes(key, (private_key,))
            if chain is not None and private is not None:
                certificate = tls_v3.TlsCertificate(
                    certificate_chain=core_v3.DataSource(inline_bytes=chain),
                    private_key=core_v3.DataSource(inline_bytes=private),
                )
                staple = self._plane.world.staples.get(name)
                if staple is not None:
                    certificate.ocsp_staple.inline_bytes = staple.der
                return tls_v3.Secret(name=name, tls_certificate=certificate)
        return None

    def _of_login(self, name: str) -> Any:
        value = self._logins.value(name, self._plane.compiled.value) if self._logins is not None else None
        if value is None:
            return None
        return tls_v3.Secret(
            name=name, generic_secret=tls_v3.GenericSecret(secret=core_v3.DataSource(inline_bytes=value))
        )

    def _authority(self, name: str) -> Any:
        """CAs, and what they revoked; None if any of it is not there: Envoy then lets nobody in."""
        base, fetched = self._fetched(name)
        key, *lists = base.removeprefix(_AUTHORITY).split("~")
        authority = self._bytes(key, CA_KEYS)
        if authority is None:
            return None
        namespace = key.partition("/")[0]
        revoked = [self._bytes(f"{namespace}/{one}", CRL_KEYS) for one in lists]
        own = self._bytes(key, CRL_KEYS)
        given = [one for one in (own, *revoked) if one is not None]
        if len(given) < len(lists) + (own is not None):
            return None
        if base != name:
            if fetched is None:
                return None
            given.append(fetched.pem)
        context = tls_v3.CertificateValidationContext(trusted_ca=core_v3.DataSource(inline_bytes=authority))
        if given:
            context.crl.inline_bytes = b"\n".join(given)
        elif base == name and (listed := self._own_lists(authority)):
            context.crl.inline_bytes = listed
            context.only_verify_leaf_cert_crl = True
        return tls_v3.Secret(name=name, validation_context=context)

    def _own_lists(self, authorities: bytes) -> bytes:
        """Of our own authority, where nobody else is trusted: another's clients would be refused for want of a list."""
        lists = "".join(one for bundle in self._plane.trust[:1] for one in bundle.lists)
        return lists.encode() if lists and are_among(authorities, own_roots(self._plane.trust)) else b""

    def _fetched(self, name: str) -> tuple[str, ClientCrls | None]:
        """The name without that of lists that were fetched, and these."""
        for (base, _), crls in self._plane.world.crls.items():
            if fetched_crls_name(base, crls) == name:
                return base, crls
        return without_crls(name), None

    def _bytes(self, key: str, names: tuple[str, ...]) -> bytes | None:
        """The first of ``names`` that the Secret has; values that could not be used count as missing."""
        return secret_value(self._plane.compiled.value, key, names)
