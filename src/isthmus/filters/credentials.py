"""Clients' credentials: the credentials process says who brought them (ext_authz over the node's own Unix socket).

It is asked where a policy takes API keys, certificates' consumers, opaque tokens or tokens bound to a certificate; what
it says stands in the dynamic metadata of :mod:`isthmus.model.consumer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import (
    core_v3,
    ext_authz_v3,
    matcher_v3,
    mutation_rules_v3,
    protobuf,
    type_v3,
)
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.jwt_authn import NAME as JWT_AUTHN
from isthmus.model.client_authentication import ACCEPTS
from isthmus.model.consumer import CLIENT

NAME = "isthmus.credentials"
CLUSTER = "isthmus_credentials"
STAT_PREFIX = "isthmus_credentials"
_TIMEOUT = timedelta(seconds=5)
"""More than the process takes for the slowest thing it asks others."""
_UNAVAILABLE = 503
_ALWAYS = ("authorization", "cookie")


@dataclass(frozen=True, slots=True)
class Credentials:
    """``accepts``: the ``text`` of :class:`isthmus.model.client_authentication.Accepted`. None: nobody is asked.

    At the chain None leaves the filter to those routes that say something. ``headers``: in lower case, in which keys
    may stand at any route of the chain; a route's value has none. ``chosen_anew``: a request may come to another route
    than its first in front of this filter. Envoy leaves out what is disabled by the first route alone, so the filter
    stands there all the same, and every route without such a policy must say that nobody is asked.
    """

    accepts: str | None
    headers: tuple[str, ...] = ()
    chosen_anew: bool = False


def client_log_fields() -> Mapping[str, str]:
    """Access log fields: who the client is, and how that was found out."""
    fields = {"consumer": "consumer", "consumer_namespace": "consumer_namespace", "consumer_groups": "groups"}
    fields |= {"consumer_plan": "plan", "client_method": "method"}
    return {name: f"%DYNAMIC_METADATA({CLIENT}:{key})%" for name, key in fields.items()}


def _build(config: Credentials) -> tuple[Any, ...]:
    names = sorted({*_ALWAYS, *config.headers})
    # Envoy reads percent signs of these values as commands; in JSON they can be written otherwise.
    accepts = (config.accepts or "").replace("%", r"\u0025")
    metadata = [core_v3.HeaderValue(key=ACCEPTS, value=accepts)] if accepts else []
    built = ext_authz_v3.ExtAuthz(
        transport_api_version=core_v3.ApiVersion.Value("V3"),
        grpc_service=core_v3.GrpcService(
            envoy_grpc=core_v3.GrpcService.EnvoyGrpc(cluster_name=CLUSTER),
            timeout=duration(_TIMEOUT),
            initial_metadata=metadata,
        ),
        failure_mode_allow=False,
        status_on_error=type_v3.HttpStatus(code=_UNAVAILABLE),
        stat_prefix=STAT_PREFIX,
        # Several of a header are several credentials: joined by commas they could not be told from one.
        encode_raw_headers=True,
        allowed_headers=matcher_v3.ListStringMatcher(
            patterns=[matcher_v3.StringMatcher(exact=name, ignore_case=True) for name in names]
        ),
        metadata_context_namespaces=[JWT_AUTHN],
        include_peer_certificate=True,
        enable_dynamic_metadata_ingestion=protobuf.BoolValue(value=True),
        decoder_header_mutation_rules=mutation_rules_v3.HeaderMutationRules(
            # The path without the key that stood in it; the route is chosen already.
            allow_all_routing=protobuf.BoolValue(value=True),
            disallow_is_error=protobuf.BoolValue(value=True),
        ),
    )
    message = http_filter(NAME, built)
    message.disabled = config.accepts is None and not config.chosen_anew
    return (message,)


def _build_route(config: Credentials) -> Any:
    if config.accepts is None:
        return ext_authz_v3.ExtAuthzPerRoute(disabled=True)
    settings = ext_authz_v3.CheckSettings(context_extensions={ACCEPTS: config.accepts})
    return ext_authz_v3.ExtAuthzPerRoute(check_settings=settings)


CREDENTIALS = Filter(NAME, Credentials, _build, _build_route, discovered=True)
