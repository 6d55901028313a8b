"""CUSTOM policies: an external service decides on the requests that their rules match.

Istio's way: an RBAC filter whose rules are only a shadow marks the request, the ext_authz filter behind it asks about
marked ones alone. Each provider has a mark of its own, so that two that match are both asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import (
    core_v3,
    ext_authz_v3,
    matcher_v3,
    mutation_rules_v3,
    protobuf,
    rbac_config_v3,
    rbac_v3,
    set_metadata_v3,
    type_v3,
)
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.jwt_authn import NAME as JWT_AUTHN
from isthmus.filters.rbac import METADATA, NamedRule, build_rules
from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.consumer import ANSWERED_KEY, CLIENT, CLIENT_KEYS, EXTERNAL, EXTERNAL_KEY
from isthmus.model.match import wildcard
from isthmus.model.rego import POLICIES
from isthmus.model.settings import ExtAuthz

_FORBIDDEN = "x-forwarded-client-cert|x-isthmus-.*"
"""Who the peer is, and who the client is, is ours to say, not the provider's."""


@dataclass(frozen=True, slots=True)
class CustomProvider:
    """The rules that send a request to one provider, and the cluster where it is reached."""

    provider: ExtAuthz
    cluster: str
    rules: tuple[NamedRule, ...]


@dataclass(frozen=True, slots=True)
class Custom:
    """Each provider whose rules match must consent."""

    providers: tuple[CustomProvider, ...]


@dataclass(frozen=True, slots=True)
class CustomAfter:
    """The same, asked after tokens are verified and access control: the providers are told the verified claims."""

    providers: tuple[CustomProvider, ...]


def custom_log_fields(config: Custom | None, after: CustomAfter | None = None) -> Mapping[str, str]:
    """Access log fields: by provider, the policy that sent the request there."""
    marks = {f"custom_policy_{index}": f"istio_ext_authz_{index}_" for index in range(_count(config))}
    marks |= {f"custom_policy_after_{index}": f"isthmus_after_{index}_" for index in range(_count(after))}
    return {name: f"%DYNAMIC_METADATA({METADATA}:{mark}shadow_effective_policy_id)%" for name, mark in marks.items()}


def _count(config: Custom | CustomAfter | None) -> int:
    return 0 if config is None else len(config.providers)


def _build(config: Custom) -> tuple[Any, ...]:
    return tuple(_in_turn(config.providers, after=False))


def _build_after(config: CustomAfter) -> tuple[Any, ...]:
    return tuple(_in_turn(config.providers, after=True))


def _in_turn(providers: tuple[CustomProvider, ...], *, after: bool) -> Iterator[Any]:
    """Marks and names of its own for each place: both may stand in one chain, of the same provider even."""
    named, mark = ("_after", "isthmus_after") if after else ("", "istio_ext_authz")
    for external, group in groupby(enumerate(providers), key=lambda one: one[1].provider.rego is None):
        asked = tuple(group)
        first = asked[0][0]
        if external:
            yield http_filter(f"isthmus.custom{named}.external.{first}", _build_metadata(_external(True)))
        for index, one in asked:
            prefix = f"{mark}_{index}_"
            yield http_filter(f"isthmus.custom{named}.{index}", _build_mark(prefix, one))
            built = _build_ext_authz(prefix, one, after=after)
            yield http_filter(f"isthmus.ext_authz{named}.{one.provider.name}", built)
        if external:
            over = (_external(False),) if after else (_external(False), _nobody())
            yield http_filter(f"isthmus.custom{named}.client.{first}", _build_metadata(*over))


def _external(asked: bool) -> Any:
    """Whether somebody who is none of ours is asked now: why he refuses is not for the mesh's reasons."""
    value = protobuf.Struct(fields={EXTERNAL_KEY: protobuf.Value(bool_value=asked)})
    return set_metadata_v3.Metadata(metadata_namespace=EXTERNAL, allow_overwrite=True, value=value)


def _nobody() -> Any:
    """What a provider wrote stays for policies to ask, but not who the client is: that is ours to say, further down.

    Each key becomes null, whatever it was.
    """
    nobody = protobuf.Struct(fields={key: protobuf.Value(null_value=0) for key in CLIENT_KEYS})
    nobody.fields[ANSWERED_KEY].bool_value = False
    return set_metadata_v3.Metadata(metadata_namespace=CLIENT, allow_overwrite=True, value=nobody)


def _build_metadata(*written: Any) -> Any:
    return set_metadata_v3.Config(metadata=written)


def _build_mark(mark: str, one: CustomProvider) -> Any:
    rules = build_rules(rbac_config_v3.RBAC.DENY, one.rules)
    return rbac_v3.RBAC(shadow_rules=rules, shadow_rules_stat_prefix=mark)


def _build_ext_authz(mark: str, one: CustomProvider, *, after: bool = False) -> Any:
    """``mark``: what tells the filter that a rule matched. ``after``: the provider is told who the client is."""
    provider = one.provider
    marked = matcher_v3.MetadataMatcher(
        filter=METADATA,
        path=[matcher_v3.MetadataMatcher.PathSegment(key=f"{mark}shadow_engine_result")],
        value=matcher_v3.ValueMatcher(string_match=matcher_v3.StringMatcher(exact="denied")),
    )
    built = ext_authz_v3.ExtAuthz(
        transport_api_version=core_v3.ApiVersion.Value("V3"),
        failure_mode_allow=provider.fail_open,
        clear_route_cache=provider.clear_route_cache,
        status_on_error=type_v3.HttpStatus(code=provider.status_on_error),
        filter_enabled_metadata=marked,
        stat_prefix=provider.name,
        decoder_header_mutation_rules=_mutation_rules(),
        # What it would write then stands where readers look for who the client is (model/consumer.py).
        enable_dynamic_metadata_ingestion=protobuf.BoolValue(value=provider.rego is not None or not after),
        metadata_context_namespaces=(JWT_AUTHN, CLIENT) if after else (),
        include_peer_certificate=provider.rego is not None,
    )
    if provider.include_body is not None:
        built.with_request_body.CopyFrom(
            ext_authz_v3.BufferSettings(
                max_request_bytes=provider.include_body.max_bytes,
                allow_partial_message=provider.include_body.allow_partial,
                pack_as_bytes=provider.include_body.as_bytes,
            )
        )
    if provider.grpc:
        built.grpc_service.CopyFrom(_grpc_service(provider, one.cluster))
    else:
        built.http_service.CopyFrom(_http_service(provider, one.cluster))
        if provider.include_request_headers:
            built.allowed_headers.CopyFrom(_headers(provider.include_request_headers))
    return built


def _mutation_rules() -> Any:
    """As in Istio the provider may set any header, routing ones too; not ``x-envoy-*`` nor the peer's identity."""
    return mutation_rules_v3.HeaderMutationRules(
        allow_all_routing=protobuf.BoolValue(value=True),
        disallow_expression=matcher_v3.RegexMatcher(regex=_FORBIDDEN),
    )


def _grpc_service(provider: ExtAuthz, cluster: str) -> Any:
    envoy_grpc = core_v3.GrpcService.EnvoyGrpc(cluster_name=cluster, authority=provider.host)
    told = [core_v3.HeaderValue(key=POLICIES, value=provider.rego)] if provider.rego is not None else []
    return core_v3.GrpcService(envoy_grpc=envoy_grpc, timeout=duration(provider.timeout), initial_metadata=told)


def _http_service(provider: ExtAuthz, cluster: str) -> Any:
    added = [core_v3.HeaderValue(key=name, value=value) for name, value in provider.include_additional_headers]
    return ext_authz_v3.HttpService(
        server_uri=core_v3.HttpUri(
            uri=f"http://{provider.host}:{provider.port}", cluster=cluster, timeout=duration(provider.timeout)
        ),
        path_prefix=provider.path_prefix,
        authorization_request=ext_authz_v3.AuthorizationRequest(headers_to_add=added),
        authorization_response=_authorization_response(provider),
    )


def _authorization_response(provider: ExtAuthz) -> Any:
    """A list that is left out means Envoy's default: to the client on a denial, every header but the host."""
    built = ext_authz_v3.AuthorizationResponse()
    if provider.headers_to_upstream:
        built.allowed_upstream_headers.CopyFrom(_headers(provider.headers_to_upstream))
    if provider.headers_to_downstream_on_deny:
        built.allowed_client_headers.CopyFrom(_headers(provider.headers_to_downstream_on_deny))
    if provider.headers_to_downstream_on_allow:
        built.allowed_client_headers_on_success.CopyFrom(_headers(provider.headers_to_downstream_on_allow))
    return built


def _headers(names: Iterable[str]) -> Any:
    """Names as the mesh configuration writes them: exact, ``prefix*`` or ``*suffix``, in any case."""
    patterns = [build_string_matcher(wildcard(name, ignore_case=True)) for name in names]
    return matcher_v3.ListStringMatcher(patterns=patterns)


CUSTOM = Filter("isthmus.ext_authz", Custom, _build, discovered=True)
CUSTOM_AFTER = Filter("isthmus.ext_authz_after", CustomAfter, _build_after, discovered=True)
