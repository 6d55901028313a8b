"""Istio's MeshConfig, as the ConfigMap ``istio`` carries it. Source: istio/api mesh/v1alpha1/{config,proxy}.proto."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from isthmus.config.decode import (
    Reader,
    checked,
    enum_of,
    fail,
    integer,
    later,
    list_of,
    narrows,
    noted,
    optional,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.ext_authz_provider import (
    GRPC_PROVIDER,
    HTTP_PROVIDER,
    GrpcProviderSpec,
    HttpProviderSpec,
)
from isthmus.kinds.shape.host import namespace_problem
from isthmus.kinds.shape.support import export_to
from isthmus.kinds.shape.telemetry_defaults import (
    DEFAULT_PROVIDERS,
    TRACING,
    DefaultProviders,
    LogEncoding,
    TracingDefaults,
    log_file,
    log_format_problem,
)
from isthmus.kinds.shape.telemetry_provider import (
    FILE_LOG,
    OPENTELEMETRY,
    PROMETHEUS_PROVIDER,
    FileLogSpec,
    OpenTelemetrySpec,
    PrometheusSpec,
)
from isthmus.model.settings import OutboundPolicy, PathNormalization

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Outbound:
    at: Node
    mode: OutboundPolicy


@dataclass(frozen=True, slots=True)
class _Normalization:
    at: Node
    normalization: PathNormalization


@dataclass(frozen=True, slots=True)
class _Topology:
    at: Node
    num_trusted_proxies: int


@dataclass(frozen=True, slots=True)
class _ProxyConfig:
    at: Node
    gateway_topology: _Topology | None
    tracing: TracingDefaults | None = None


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    at: Node
    name: str
    envoy_ext_authz_http: HttpProviderSpec | None
    envoy_ext_authz_grpc: GrpcProviderSpec | None
    opentelemetry: OpenTelemetrySpec | None = None
    prometheus: PrometheusSpec | None = None
    envoy_file_access_log: FileLogSpec | None = None


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """What a mesh configuration says; None where it says nothing."""

    at: Node
    trust_domain: str | None
    root_namespace: str | None
    outbound_traffic_policy: _Outbound | None
    path_normalization: _Normalization | None
    default_config: _ProxyConfig | None
    extension_providers: tuple[ProviderSpec, ...]
    default_providers: DefaultProviders | None = None
    access_log_file: str | None = None
    access_log_format: str | None = None
    access_log_encoding: LogEncoding = LogEncoding.TEXT
    trust_domain_aliases: tuple[str, ...] = ()


_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")


def trust_domain_problem(name: str) -> str | None:
    """SPIFFE-ID, section 2.1."""
    return None if _TRUST_DOMAIN.fullmatch(name) else f'"{name}" is not a trust domain (a-z, 0-9, ".", "-", "_")'


def _duplicate_names(providers: tuple[ProviderSpec, ...]) -> str | None:
    names = [provider.name for provider in providers]
    return "two extension providers have the same name" if len(set(names)) < len(names) else None


def _single(values: type[Enum], kind: Callable[..., T], name: str) -> Reader[T]:
    """A message that holds nothing but an enum."""
    return record(kind, required(name, enum_of(values)))


_OTHER_PROVIDERS = (
    "zipkin",
    "lightstep",
    "datadog",
    "stackdriver",
    "opencensus",
    "skywalking",
    "envoyHttpAls",
    "envoyTcpAls",
    "envoyOtelAls",
    "sds",
)
_PROVIDER = record(
    ProviderSpec,
    required("name", text),
    optional("envoyExtAuthzHttp", HTTP_PROVIDER),
    optional("envoyExtAuthzGrpc", GRPC_PROVIDER),
    optional("opentelemetry", OPENTELEMETRY),
    optional("prometheus", PROMETHEUS_PROVIDER),
    optional("envoyFileAccessLog", FILE_LOG),
    *map(later, _OTHER_PROVIDERS),
)
_PROXY_FIELDS = (
    "availabilityZone",
    "binaryPath",
    "caCertificatesPem",
    "concurrency",
    "configPath",
    "connectionSettings",
    "controlPlaneAuthPolicy",
    "customConfigFile",
    "discoveryAddress",
    "discoveryRefreshDelay",
    "drainDuration",
    "envoyAccessLogService",
    "envoyMetricsService",
    "envoyMetricsServiceAddress",
    "extraStatTags",
    "fileFlushInterval",
    "fileFlushMinSizeKb",
    "holdApplicationUntilProxyStarts",
    "image",
    "interceptionMode",
    "meshId",
    "parentShutdownDuration",
    "privateKeyProvider",
    "proxyAdminPort",
    "proxyBootstrapTemplatePath",
    "proxyHeaders",
    "proxyMetadata",
    "proxyStatsMatcher",
    "readinessProbe",
    "runtimeValues",
    "sds",
    "serviceCluster",
    "statNameLength",
    "statsdUdpAddress",
    "statsEvictionInterval",
    "statusPort",
    "terminationDrainDuration",
    "tracingServiceName",
    "zipkinAddress",
)
_TOPOLOGY = record(
    _Topology,
    optional("numTrustedProxies", checked(integer, lambda hops: "hops are not negative" if hops < 0 else None), 0),
    later("forwardClientCertDetails"),
    later("proxyProtocol"),
)
_MESH_FIELDS = (
    "ca",
    "caCertificates",
    "certificates",
    "configSources",
    "connectTimeout",
    "defaultHttpRetryPolicy",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableAutoMtls",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "h2UpgradePolicy",
    "hboneListenPort",
    "inboundClusterStatName",
    "inboundTrafficPolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "localityLbSetting",
    "outboundClusterStatName",
    "protocolDetectionTimeout",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "serviceScopeConfigs",
    "serviceSettings",
    "tcpKeepalive",
    "thriftConfig",
    "verifyCertificateAtClient",
)
_NORMALIZATIONS: Reader[PathNormalization] = enum_of(PathNormalization, {"DEFAULT": PathNormalization.BASE})
_MESH: Reader[MeshConfig] = record(
    MeshConfig,
    optional("trustDomain", checked(text, trust_domain_problem)),
    optional("rootNamespace", checked(text, namespace_problem)),
    optional("outboundTrafficPolicy", _single(OutboundPolicy, _Outbound, "mode")),
    optional("pathNormalization", record(_Normalization, required("normalization", _NORMALIZATIONS))),
    optional(
        "defaultConfig",
        record(
            _ProxyConfig,
            optional("gatewayTopology", _TOPOLOGY),
            optional("tracing", TRACING),
            *map(later, _PROXY_FIELDS),
        ),
    ),
    optional("extensionProviders", checked(list_of(_PROVIDER), _duplicate_names), ()),
    optional("defaultProviders", DEFAULT_PROVIDERS),
    optional("accessLogFile", log_file, note="beside the log of Isthmus, which is always there"),
    optional("accessLogFormat", text),
    optional("accessLogEncoding", enum_of(LogEncoding), LogEncoding.TEXT),
    optional("trustDomainAliases", list_of(checked(text, trust_domain_problem)), ()),
    noted("enableTracing", "spans go where a provider is named: defaultProviders, Telemetry"),
    export_to("defaultServiceExportTo"),
    export_to("defaultVirtualServiceExportTo"),
    export_to("defaultDestinationRuleExportTo"),
    narrows("meshMTLS"),
    narrows("tlsDefaults"),
    *map(later, _MESH_FIELDS),
)


def _log_format(config: MeshConfig, node: Node, report: Report) -> MeshConfig:
    problem = log_format_problem(config.access_log_format, config.access_log_encoding)
    if problem is not None:
        raise fail(report, node.at("accessLogFormat"), problem)
    return config


MESH_CONFIG: Reader[MeshConfig] = converted(_MESH, _log_format)


def camel_case(node: Node) -> Node:
    """``node`` with its fields named as JSON names them: protobuf takes ``trust_domain`` for ``trustDomain``."""
    if node.is_sequence:
        return replace(node, value=tuple(map(camel_case, node.items)))
    if not node.is_mapping:
        return node
    names = {name: _camel(name) for name in node.mapping}
    return replace(
        node,
        value={
            names[name]: below if names[name] in _FREE_KEYS else camel_case(below)
            for name, below in node.mapping.items()
        },
        keys={names.get(name, name): source for name, source in node.keys.items()},
    )


_FREE_KEYS = frozenset({"customTags", "includeAdditionalHeadersInCheck", "labels", "proxyMetadata", "runtimeValues"})


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)
