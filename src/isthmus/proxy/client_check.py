"""The agent's answers to Envoy about clients' certificates: envoy.service.auth.v3.Authorization on the SDS socket."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import grpc
from cryptography import x509

from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.latest import Latest
from isthmus.model.ocsp_question import HEADER, OcspQuestion
from isthmus.proxy.sds_stream import Secrets
from isthmus.revocation.decision import Decision, OcspDecisions, Reason

SERVICE = "envoy.service.auth.v3.Authorization"
_log = logging.getLogger(__name__)
_LONGEST = 500
_REASON = "reason"
"""Of the dynamic metadata ``envoy.filters.network.ext_authz``: what the access log shows."""


class ClientCheck:
    """Decides for one proxy. The client CAs are the proxy's own secrets."""

    def __init__(self, proxy_id: str, secrets: Latest[Secrets], decisions: OcspDecisions) -> None:
        self._proxy_id = proxy_id
        self._secrets = secrets
        self._decisions = decisions

    def handler(self) -> Any:
        method = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=ext_authz_service_v3.CheckRequest.FromString,
            response_serializer=ext_authz_service_v3.CheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": method})

    async def _check(self, request: Any, context: Any) -> Any:
        metadata: Mapping[str, str] = dict(context.invocation_metadata())
        try:
            question = OcspQuestion.decode(metadata.get(HEADER, ""))
        except ValueError as broken:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(broken))
        written = unquote(request.attributes.source.certificate)
        if not written:
            # TLS demands one where the server does; who shows none is nobody, and cannot be revoked.
            return _answer(Decision(True, Reason.GOOD))
        try:
            certificate = x509.load_pem_x509_certificate(written.encode())
            names = _names(certificate)
        except ValueError:
            return self._told(Decision(False, Reason.UNREADABLE), request, "a certificate that cannot be read")
        decision = await self._decisions.decide(certificate, self._authorities(question.authorities), question.policy)
        return self._told(decision, request, f"serial {certificate.serial_number:x}, {names}")

    def _authorities(self, name: str) -> list[x509.Certificate]:
        served = self._secrets.value.served.get(name)
        if served is None:
            return []
        secret: Any = unpack(served.packed)
        return x509.load_pem_x509_certificates(secret.validation_context.trusted_ca.inline_bytes)

    def _told(self, decision: Decision, request: Any, who: str) -> Any:
        if decision.reason is not Reason.GOOD:
            source = request.attributes.source.address.socket_address
            _log.warning(
                "%s: client certificate %s: reason=%s %s; server name %s, peer %s:%d%s",
                self._proxy_id,
                "let in" if decision.allowed else "refused",
                decision.reason.value,
                who,
                _one_line(request.attributes.tls_session.sni) or "-",
                source.address,
                source.port_value,
                f" ({_one_line(decision.detail)})" if decision.detail else "",
            )
        return _answer(decision)


def _one_line(text: str) -> str:
    """What clients, certificates and responders wrote may hold anything, line ends too."""
    return ascii(text[:_LONGEST])[1:-1]


def _names(certificate: x509.Certificate) -> str:
    """Its subject alternative names, and its subject where it has none, as they may stand in a log."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ascii(certificate.subject.rfc4514_string())
    return ", ".join(ascii(str(name.value)) for name in found)


def _answer(decision: Decision) -> Any:
    code = grpc.StatusCode.OK if decision.allowed else grpc.StatusCode.PERMISSION_DENIED
    response = ext_authz_service_v3.CheckResponse()
    response.status.code = code.value[0]
    response.dynamic_metadata.update({_REASON: decision.reason.value})
    return response
