"""What holds for the whole mesh: Istio's MeshConfig."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.telemetry import Provider as TelemetryProvider
from isthmus.model.telemetry import TelemetryDefaults


class OutboundPolicy(Enum):
    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


class PathNormalization(Enum):
    """MeshConfig.ProxyPathNormalization; gateways additionally refuse escaped slashes."""

    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


@dataclass(frozen=True, slots=True)
class RequestBody:
    max_bytes: int
    allow_partial: bool
    as_bytes: bool


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """An ext_authz provider of the mesh configuration (``envoyExtAuthzHttp`` or ``envoyExtAuthzGrpc``)."""

    name: str
    host: str
    """A service's full host name."""
    port: int
    grpc: bool
    origin: Origin
    timeout: timedelta = timedelta(seconds=600)
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: int = 403
    path_prefix: str = ""
    include_request_headers: tuple[str, ...] = ()
    include_additional_headers: tuple[tuple[str, str], ...] = ()
    include_body: RequestBody | None = None
    headers_to_upstream: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()
    rego: str | None = None
    """``namespace/name`` of the RegoPolicy that decides, by the node's own service; host and port mean nothing then."""


@dataclass(frozen=True, slots=True)
class Settings:
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    """Names that identities of this mesh have, too: those of before a migration. Signed by the same authority."""
    root_namespace: str = "istio-system"
    service_domain: str = "svc.cluster.local"
    outbound_policy: OutboundPolicy = OutboundPolicy.ALLOW_ANY
    path_normalization: PathNormalization = PathNormalization.BASE
    trusted_proxies: int = 0
    """Hops before the gateway whose x-forwarded-for is believed (gatewayTopology.numTrustedProxies)."""
    ext_authz: tuple[ExtAuthz, ...] = ()
    telemetry_providers: tuple[TelemetryProvider, ...] = ()
    telemetry: TelemetryDefaults = field(default_factory=TelemetryDefaults)

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The mesh's own, then its aliases."""
        return self.trust_domain, *self.trust_domain_aliases

    def provider(self, name: str) -> ExtAuthz | None:
        return next((provider for provider in self.ext_authz if provider.name == name), None)

    def telemetry_provider(self, name: str) -> TelemetryProvider | None:
        return next((provider for provider in self.telemetry_providers if provider.name == name), None)
