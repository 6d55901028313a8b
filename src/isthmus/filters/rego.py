"""RegoPolicies: the node's Rego service is asked (ext_authz), after the token is verified and access control.

What it is given is what OPA-Envoy is given: the verified claims under ``metadataContext``, the peer's certificate, and
the body where a policy wants it. Away or slow, it is a denial (503).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, ext_authz_v3, matcher_v3, mutation_rules_v3, protobuf, type_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.jwt_authn import NAME as JWT_AUTHN
from isthmus.model.consumer import CLIENT
from isthmus.model.rego import DEFAULT_TIMEOUT, POLICIES
from isthmus.model.settings import RequestBody

NAME = "isthmus.rego"
CLUSTER = "isthmus_rego"
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Rego:
    """``policies`` (``namespace/name``) must all allow. Empty: nobody is asked; at the chain, but for routes that say
    so. ``chosen_anew``: as :class:`isthmus.filters.credentials.Credentials` has it."""

    policies: tuple[str, ...]
    timeout: timedelta = DEFAULT_TIMEOUT
    body: RequestBody | None = None
    chosen_anew: bool = False


def decision_log_fields() -> dict[str, str]:
    """Access log fields: the id under which a decision log has the decision."""
    return {"decision_id": f"%DYNAMIC_METADATA({CLIENT}:decision_id)%"}


def _build(config: Rego) -> tuple[Any, ...]:
    built = ext_authz_v3.ExtAuthz(
        transport_api_version=core_v3.ApiVersion.Value("V3"),
        grpc_service=_grpc_service(config),
        failure_mode_allow=False,
        status_on_error=type_v3.HttpStatus(code=_UNAVAILABLE),
        stat_prefix=CLUSTER,
        metadata_context_namespaces=[JWT_AUTHN, CLIENT],
        include_peer_certificate=True,
        enable_dynamic_metadata_ingestion=protobuf.BoolValue(value=True),
        # As OPA may: any header but the peer's identity and Envoy's own.
        decoder_header_mutation_rules=mutation_rules_v3.HeaderMutationRules(
            allow_all_routing=protobuf.BoolValue(value=True),
            disallow_expression=matcher_v3.RegexMatcher(regex="x-forwarded-client-cert|x-isthmus-.*"),
        ),
    )
    if config.body is not None:
        built.with_request_body.CopyFrom(_body(config.body))
    message = http_filter(NAME, built)
    message.disabled = not config.policies and not config.chosen_anew
    return (message,)


def _build_route(config: Rego) -> Any:
    """The whole of what a route says, so that nothing of the chain's is left."""
    if not config.policies:
        return ext_authz_v3.ExtAuthzPerRoute(disabled=True)
    settings = ext_authz_v3.CheckSettings(
        context_extensions={POLICIES: ",".join(config.policies)}, grpc_service=_grpc_service(config)
    )
    if config.body is not None:
        settings.with_request_body.CopyFrom(_body(config.body))
    else:
        settings.disable_request_body_buffering = True
    return ext_authz_v3.ExtAuthzPerRoute(check_settings=settings)


def _grpc_service(config: Rego) -> Any:
    """The metadata is for what no route says, where the service hears nothing else of policies."""
    names = [core_v3.HeaderValue(key=POLICIES, value=",".join(config.policies))] if config.policies else []
    return core_v3.GrpcService(
        envoy_grpc=core_v3.GrpcService.EnvoyGrpc(cluster_name=CLUSTER),
        timeout=duration(config.timeout),
        initial_metadata=names,
    )


def _body(body: RequestBody) -> Any:
    return ext_authz_v3.BufferSettings(
        max_request_bytes=body.max_bytes, allow_partial_message=body.allow_partial, pack_as_bytes=body.as_bytes
    )


REGO = Filter(NAME, Rego, _build, _build_route, discovered=True)
