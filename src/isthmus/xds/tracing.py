"""Spans: Envoy's OpenTelemetry tracer, with W3C trace context and the semantic conventions' names.

The first proxy that sees a request decides whether its trace is recorded; all later ones keep to what the
``traceparent`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import (
    core_v3,
    http_connection_manager_v3,
    otel_sampler_v3,
    protobuf,
    trace_v3,
    tracing_type_v3,
    type_v3,
)
from isthmus.filters import jwt_authn
from isthmus.filters.decision_time import STATE
from isthmus.filters.peer import HANDSHAKE_STATE, PEER_STATE
from isthmus.model.proxy import Proxy
from isthmus.model.route import Destination
from isthmus.model.telemetry import CustomTag, OpenTelemetry, TagSource, Tracing
from isthmus.xds.context import Context
from isthmus.xds.resource import resource_detectors

_TRACER = "envoy.tracers.opentelemetry"
_TIMEOUT = timedelta(seconds=5)
_PATH_LENGTH = 256
"""Envoy's own limit of what a span tells of a path."""
_CustomTag = tracing_type_v3.CustomTag

_TOKEN = f"metadata.filter_metadata['{jwt_authn.NAME}']"


def _failure(key: str) -> str:
    return f"({_TOKEN}['{key}']['message'] == 'Jwt is missing' ? 'anonymous' : 'failed')"


AUTH_STATUS = (
    f"%CEL('{jwt_authn.NAME}' in metadata.filter_metadata ? "
    f"('{jwt_authn.FAILURE}' in {_TOKEN} ? {_failure(jwt_authn.FAILURE)} : '{jwt_authn.PAYLOAD}' in {_TOKEN} ? "
    f"'authenticated' : {_failure(jwt_authn.KEYLESS_FAILURE)}) : 'anonymous')%"
)
"""What became of the request's token: ``authenticated``, ``failed`` or, without one, ``anonymous``."""


def build_tracing(context: Context, wanted: Tracing, verdict: Mapping[str, str] | None) -> Any:
    """The tracing of a connection manager; None if the provider is none of spans.

    ``verdict``: the access log's fields of which policies decided, which become tags ``isthmus.NAME``; None where no
    policy is asked (a program's own calls).
    """
    provider = context.mesh.settings.telemetry_provider(wanted.provider)
    if not isinstance(provider, OpenTelemetry):
        return None
    longest = provider.max_tag_length or context.mesh.settings.telemetry.max_path_length or _PATH_LENGTH
    everything = type_v3.Percent(value=100)
    own = {tag.name for tag in wanted.custom_tags}
    tags = [_format_tag(name, value) for name, value in _tags(longest, verdict).items() if name not in own]
    return http_connection_manager_v3.HttpConnectionManager.Tracing(
        provider=trace_v3.Tracing.Http(name=_TRACER, typed_config=any_of(_tracer(context, provider, wanted.sampling))),
        client_sampling=everything,
        overall_sampling=everything,
        # What is recorded, the tracer's own sampler says: Envoy's decision would not ask what the caller decided.
        random_sampling=everything,
        max_path_tag_length=protobuf.UInt32Value(value=longest),
        no_context_propagation=wanted.no_context_propagation,
        operation="%REQ(:METHOD)% %ROUTE_NAME%",
        custom_tags=[*tags, *(_custom_tag(tag) for tag in wanted.custom_tags)],
    )


def service_name(proxy: Proxy) -> str:
    """``service.name`` as Istio forms it: what runs, and its namespace."""
    return f"{proxy.labels.get('app', proxy.name)}.{proxy.namespace}"


def _tracer(context: Context, provider: OpenTelemetry, sampling: float) -> Any:
    proxy = context.proxy
    cluster = context.cluster_of(Destination(provider.host, provider.port))
    about = {"service.namespace": proxy.namespace, "service.instance.id": proxy.id}
    built = trace_v3.OpenTelemetryConfig(
        service_name=service_name(proxy),
        resource_detectors=resource_detectors(about, environment=provider.environment),
        sampler=_sampler(sampling),
    )
    headers = [core_v3.HeaderValue(key=name, value=value) for name, value in provider.headers]
    if provider.path is None:
        grpc = core_v3.GrpcService.EnvoyGrpc(cluster_name=cluster, authority=provider.host)
        built.grpc_service.CopyFrom(core_v3.GrpcService(envoy_grpc=grpc, initial_metadata=headers))
        return built
    timeout = duration(provider.timeout or _TIMEOUT)
    uri = f"http://{provider.host}:{provider.port}{provider.path}"
    set_header = core_v3.HeaderValueOption.HeaderAppendAction.Value("OVERWRITE_IF_EXISTS_OR_ADD")
    built.http_service.CopyFrom(
        core_v3.HttpService(
            http_uri=core_v3.HttpUri(uri=uri, cluster=cluster, timeout=timeout),
            request_headers_to_add=[
                core_v3.HeaderValueOption(header=header, append_action=set_header) for header in headers
            ],
        )
    )
    return built


def _sampler(percent: float) -> Any:
    """As the caller decided; of those without a caller, ``percent``, told by the trace id."""
    share = type_v3.FractionalPercent(
        numerator=round(percent * 10_000), denominator=type_v3.FractionalPercent.DenominatorType.Value("MILLION")
    )
    ratio = _extension(
        "trace_id_ratio_based", otel_sampler_v3.TraceIdRatioBasedSamplerConfig(sampling_percentage=share)
    )
    return _extension("parent_based", otel_sampler_v3.ParentBasedSamplerConfig(wrapped_sampler=ratio))


def _extension(name: str, config: Any) -> Any:
    return core_v3.TypedExtensionConfig(
        name=f"envoy.tracers.opentelemetry.samplers.{name}", typed_config=any_of(config)
    )


def _tags(longest: int, verdict: Mapping[str, str] | None) -> dict[str, str]:
    """By name: a format string. Those without a value are left out of the span by Envoy.

    ``http.url`` is Envoy's own, and would tell the query, which may carry a token.
    """
    path = f"%PATH(NQ:ORIG_OR_PATH):{longest}%"
    common = {
        "http.url": f"%REQ(:SCHEME)%://%REQ(:AUTHORITY)%{path}",
        "http.request.method": "%REQ(:METHOD)%",
        "http.response.status_code": "%RESPONSE_CODE%",
        "http.route": "%ROUTE_NAME%",
        "url.scheme": "%REQ(:SCHEME)%",
        "url.path": path,
        "server.address": "%REQ(:AUTHORITY)%",
        "client.address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "user_agent.original": "%REQ(USER-AGENT)%",
        "isthmus.details": "%RESPONSE_CODE_DETAILS%",
    }
    if verdict is None:
        return common
    return {
        **common,
        "tls.protocol.version": "%DOWNSTREAM_TLS_VERSION%",
        "http.auth.status": AUTH_STATUS,
        "isthmus.peer": f"%FILTER_STATE({PEER_STATE}:PLAIN)%",
        "isthmus.token_failure": f"%DYNAMIC_METADATA({jwt_authn.NAME}:{jwt_authn.FAILURE}:message)%",
        "isthmus.policies_ms": f"%FILTER_STATE({STATE}:PLAIN)%",
        "isthmus.handshake_ms": f"%FILTER_STATE({HANDSHAKE_STATE}:PLAIN)%",
        **{f"isthmus.{name}": value for name, value in verdict.items()},
    }


def _format_tag(name: str, value: str) -> Any:
    return _CustomTag(tag=name, value=value)


def _custom_tag(tag: CustomTag) -> Any:
    match tag.source:
        case TagSource.LITERAL:
            return _CustomTag(tag=tag.name, literal=_CustomTag.Literal(value=tag.value))
        case TagSource.ENVIRONMENT:
            variable = _CustomTag.Environment(name=tag.value, default_value=tag.default)
            return _CustomTag(tag=tag.name, environment=variable)
        case TagSource.HEADER:
            header = _CustomTag.Header(name=tag.value, default_value=tag.default)
            return _CustomTag(tag=tag.name, request_header=header)
        case TagSource.FORMATTER:
            return _format_tag(tag.name, tag.value)
