"""What a ClientTrafficPolicy looks like (gateway.envoyproxy.io's kind of that name, for Istio's Gateways)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from isthmus.config.decode import Reader, checked, list_of, narrows, optional, record, required, text
from isthmus.config.node import Node
from isthmus.kinds.client_traffic_policy.connection import CONNECTION, ConnectionSpec
from isthmus.kinds.client_traffic_policy.errors import ERRORS
from isthmus.kinds.client_traffic_policy.headers import HEADERS
from isthmus.kinds.client_traffic_policy.health_check import HEALTH_CHECK
from isthmus.kinds.client_traffic_policy.tls import TLS, TlsSpec
from isthmus.model.client_headers import USUAL_HEADERS, ClientHeaders, HealthCheck
from isthmus.model.client_traffic import ClientTraffic, ClientValidation, Problems

GATEWAY_GROUP = "networking.istio.io"


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A Gateway of the policy's namespace; ``section_name``: the name of one server's port."""

    at: Node
    group: str
    kind: str
    name: str
    section_name: str | None


@dataclass(frozen=True, slots=True)
class ClientTrafficPolicySpec:
    at: Node
    target_refs: tuple[TargetSpec, ...]
    tls: TlsSpec | None
    connection: ConnectionSpec | None
    headers: ClientHeaders | None
    health_check: HealthCheck | None
    errors: Problems | None

    @property
    def value(self) -> ClientTraffic:
        """What it says, of every server that it is for."""
        beside = ClientTraffic(
            failed_handshakes=self.connection.failed_handshakes if self.connection is not None else None,
            headers=self.headers or USUAL_HEADERS,
            health_check=self.health_check,
            problems=self.errors,
        )
        tls = self.tls
        if tls is None:
            return beside
        validation: ClientValidation | None = None
        if tls.client_validation is not None:
            validation = tls.client_validation.value
        return replace(
            beside,
            validation=validation,
            minimum_version=tls.min_version,
            maximum_version=tls.max_version,
            cipher_suites=tls.ciphers,
            ecdh_curves=tls.ecdh_curves,
            compliance=tls.compliance_policy,
            staple=tls.ocsp_stapling,
            resumption=tls.session,
        )


def _group_problem(written: str) -> str | None:
    return None if written == GATEWAY_GROUP else f'"{written}" is not {GATEWAY_GROUP}, the group of Istio\'s Gateway'


def _kind_problem(written: str) -> str | None:
    return None if written == "Gateway" else f'"{written}" is not Gateway'


_TARGET = record(
    TargetSpec,
    optional("group", checked(text, _group_problem), GATEWAY_GROUP),
    required("kind", checked(text, _kind_problem)),
    required("name", text, note="a Gateway of the policy's namespace"),
    optional("sectionName", text, note="the name of one server's port; without it every server"),
)
SPEC: Reader[ClientTrafficPolicySpec] = record(
    ClientTrafficPolicySpec,
    required("targetRefs", list_of(_TARGET, least=1)),
    optional("tls", TLS),
    optional("headers", HEADERS),
    optional("healthCheck", HEALTH_CHECK),
    optional("connection", CONNECTION),
    optional("errors", ERRORS),
    narrows("targetSelectors"),
)
