"""``v1`` ConfigMap: only ``istio`` in ``istio-system``, whose key ``mesh`` holds Istio's mesh configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.config.decode import Reader, Unreadable, anything, map_of, noted, optional, record, text
from isthmus.config.node import Node
from isthmus.config.parse import parse
from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity, Source
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.ext_authz_provider import GrpcProviderSpec, HttpProviderSpec
from isthmus.kinds.shape.host import full_host
from isthmus.kinds.shape.kind import Kind
from isthmus.kinds.shape.mesh_config import (
    MESH_CONFIG,
    MeshConfig,
    ProviderSpec,
    camel_case,
)
from isthmus.kinds.shape.support import ENVELOPE
from isthmus.kinds.shape.telemetry_defaults import LogEncoding, json_labels
from isthmus.kinds.shape.telemetry_provider import (
    file_log,
    open_telemetry,
    prometheus,
    report_unknown_provider,
)
from isthmus.model.mesh import Mesh
from isthmus.model.settings import ExtAuthz, Settings
from isthmus.model.telemetry import DEFAULT_SAMPLING, STANDARD_OUTPUT, FileLog, TelemetryDefaults
from isthmus.model.telemetry import Provider as TelemetryProvider

NO_CONSEQUENCE = Code(
    "ISM2105",
    Severity.INFO,
    "A ConfigMap of no consequence",
    'only the ConfigMap "{name}" of namespace "{namespace}", with its key "mesh", is read',
    what="A ConfigMap that is not Istio's mesh configuration.",
    why="Isthmus starts no containers, so nothing mounts it.",
    example="kind: ConfigMap\nmetadata: {name: settings, namespace: shop}",
    fix="Nothing needs to be done.",
)

NAME = "istio"
NAMESPACE = "istio-system"
"""Where the mesh configuration stands, whatever root namespace it names."""


@dataclass(frozen=True, slots=True)
class _Written:
    at: Node
    data: dict[str, Node]


@dataclass(frozen=True, slots=True)
class ConfigMapSpec:
    at: Node
    mesh: MeshConfig | None
    """None: not the mesh configuration."""


def _spec(written: _Written, node: Node, report: Report) -> ConfigMapSpec:
    """Read here, not when applied: a broken mesh configuration must not replace the last good one by the defaults."""
    content = written.data.get("mesh")
    if content is None or node.ref is None or (node.ref.namespace, node.ref.name) != (NAMESPACE, NAME):
        return ConfigMapSpec(node, None)
    return ConfigMapSpec(node, _mesh_config(content, node, report))


def _mesh_config(content: Node, document: Node, report: Report) -> MeshConfig:
    written = text.read(content, report)
    block = "\n" in written
    shift = _indentation(document) if block else 0
    faults = Report()
    root = parse(written or "{}", content.source.file, content.source.line + (1 if block else 0), faults)
    report.extend(
        replace(fault, source=_shifted(fault.source, shift), ref=document.ref, path=_path(fault.path))
        for fault in faults
    )
    if root is None:
        raise Unreadable
    return MESH_CONFIG.read(camel_case(_indented(root, shift).moved("data.mesh", document.ref)), report)


def _indentation(document: Node) -> int:
    """How far a block scalar's text is indented: two more than its key. The text itself does not tell any more."""
    key = document.at("data").keys.get("mesh")
    return key.column + 1 if key is not None else 0


def _shifted(source: Source, columns: int) -> Source:
    return replace(source, column=source.column + columns)


def _path(path: str) -> str:
    return f"data.mesh.{path}" if path else "data.mesh"


def _indented(node: Node, columns: int) -> Node:
    """``node`` of the mesh configuration, with its columns in the ConfigMap."""
    value = node.value
    if node.is_mapping:
        value = {name: _indented(below, columns) for name, below in node.mapping.items()}
    elif node.is_sequence:
        value = tuple(_indented(below, columns) for below in node.items)
    keys = {name: _shifted(source, columns) for name, source in node.keys.items()}
    return replace(node, value=value, source=_shifted(node.source, columns), keys=keys)


SPEC: Reader[ConfigMapSpec] = converted(
    record(
        _Written,
        *ENVELOPE,
        optional("data", map_of(anything), {}, note="only mesh, of ConfigMap istio in istio-system"),
        noted("binaryData", "nothing mounts it"),
        noted("immutable", "the business of Kubernetes"),
    ),
    _spec,
)


def apply(resources: Sequence[Resource[ConfigMapSpec]], mesh: Mesh, report: Report) -> Mesh:
    for resource in resources:
        if resource.spec.mesh is None:
            report.add(NO_CONSEQUENCE, resource.root.at("metadata", "name"), name=NAME, namespace=NAMESPACE)
        else:
            mesh = replace(mesh, settings=_settings(resource.spec.mesh, resource, mesh.settings))
            _check_default_providers(resource.spec.mesh, mesh.settings, report)
    return mesh


def _check_default_providers(config: MeshConfig, settings: Settings, report: Report) -> None:
    names = config.default_providers
    if names is None:
        return
    for what, field, given in (
        ("spans", "tracing", names.tracing),
        ("metrics", "metrics", names.metrics),
        ("logs", "accessLogging", names.access_logging),
    ):
        for name in given:
            report_unknown_provider(what, name, names.at.at(field), settings, report)


def _settings(config: MeshConfig, resource: Resource[ConfigMapSpec], settings: Settings) -> Settings:
    outbound, normalization = config.outbound_traffic_policy, config.path_normalization
    topology = config.default_config.gateway_topology if config.default_config is not None else None
    own = config.trust_domain or settings.trust_domain
    changed = replace(
        settings,
        trust_domain=own,
        trust_domain_aliases=tuple(dict.fromkeys(name for name in config.trust_domain_aliases if name != own)),
        root_namespace=config.root_namespace or settings.root_namespace,
        outbound_policy=outbound.mode if outbound is not None else settings.outbound_policy,
        path_normalization=normalization.normalization if normalization is not None else settings.path_normalization,
        trusted_proxies=topology.num_trusted_proxies if topology is not None else settings.trusted_proxies,
    )
    providers = (_ext_authz(provider, resource, changed) for provider in config.extension_providers)
    receivers = (_telemetry(provider, resource, changed) for provider in config.extension_providers)
    return replace(
        changed,
        ext_authz=tuple(provider for provider in providers if provider is not None),
        telemetry_providers=tuple(provider for provider in receivers if provider is not None),
        telemetry=_telemetry_defaults(config, resource),
    )


def _telemetry(
    written: ProviderSpec, resource: Resource[ConfigMapSpec], settings: Settings
) -> TelemetryProvider | None:
    """None: a provider of something else than telemetry."""
    origin = replace(resource.origin, source=written.at.source)
    if written.opentelemetry is not None:
        host = _host(written.opentelemetry.service, settings)
        return open_telemetry(written.name, written.opentelemetry, host, origin)
    if written.envoy_file_access_log is not None:
        return file_log(written.name, written.envoy_file_access_log, origin)
    return prometheus(written.name, origin) if written.prometheus is not None else None


def _telemetry_defaults(config: MeshConfig, resource: Resource[ConfigMapSpec]) -> TelemetryDefaults:
    names = config.default_providers
    tracing = config.default_config.tracing if config.default_config is not None else None
    sampling = tracing.sampling if tracing is not None else None
    return TelemetryDefaults(
        tracing=names.tracing if names is not None else (),
        logging=names.access_logging if names is not None else (),
        metrics=names.metrics if names is not None else (),
        # Zero is protobuf's "not said", and Istio's default is taken (core/tracing.go, proxyConfigSamplingValue).
        sampling=sampling or DEFAULT_SAMPLING,
        custom_tags=tracing.custom_tags if tracing is not None else (),
        max_path_length=tracing.max_path_tag_length if tracing is not None else None,
        file_log=_mesh_log(config, resource),
    )


def _mesh_log(config: MeshConfig, resource: Resource[ConfigMapSpec]) -> FileLog | None:
    """What ``accessLogFile`` asks for beyond the log of Isthmus, which is on standard output already."""
    if not config.access_log_file or (config.access_log_file == STANDARD_OUTPUT and not config.access_log_format):
        return None
    layout = config.access_log_format
    if config.access_log_encoding is LogEncoding.JSON:
        return FileLog("", config.access_log_file, resource.origin, labels=json_labels(layout) or ())
    return FileLog("", config.access_log_file, resource.origin, text=layout)


def _host(service: str, settings: Settings) -> str:
    namespace, _, host = service.rpartition("/")
    return full_host(host, namespace or settings.root_namespace, settings)


def _ext_authz(written: ProviderSpec, resource: Resource[ConfigMapSpec], settings: Settings) -> ExtAuthz | None:
    """None: a provider of something else than authorisation."""
    http, grpc = written.envoy_ext_authz_http, written.envoy_ext_authz_grpc
    spec: HttpProviderSpec | GrpcProviderSpec | None = http or grpc
    if spec is None:
        return None
    provider = ExtAuthz(
        name=written.name,
        host=_host(spec.service, settings),
        port=spec.port,
        grpc=http is None,
        origin=replace(resource.origin, source=written.at.source),
        timeout=spec.timeout,
        fail_open=spec.fail_open,
        clear_route_cache=spec.clear_route_cache,
        status_on_error=spec.status_on_error,
        include_body=spec.include_request_body_in_check,
    )
    if http is None:
        return provider
    return replace(
        provider,
        path_prefix=http.path_prefix,
        include_request_headers=(*http.include_request_headers_in_check, *http.include_headers_in_check),
        include_additional_headers=tuple(http.include_additional_headers_in_check.items()),
        headers_to_upstream=http.headers_to_upstream_on_allow,
        headers_to_downstream_on_deny=http.headers_to_downstream_on_deny,
        headers_to_downstream_on_allow=http.headers_to_downstream_on_allow,
    )


KIND = Kind(
    name="ConfigMap",
    api_versions=("v1",),
    spec=SPEC,
    apply=apply,
    about="Istio's mesh configuration, in the ConfigMap istio of istio-system.",
    whole_document=True,
)
