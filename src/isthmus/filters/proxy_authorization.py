"""The explicit outbound proxy serves its own workload only: who else asks gets 407; no upstream sees the credential.

Two filters: RBAC denies a request whose ``proxy-authorization`` is not the credential; a header mutation behind it
takes the header away. RBAC can only answer 403, so the connection manager rewrites that very answer: see
:func:`local_reply_mapper`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    accesslog_v3,
    cel_access_log_filter_v3,
    core_v3,
    header_mutation_filter_v3,
    http_connection_manager_v3,
    mutation_rules_v3,
    protobuf,
    rbac_config_v3,
    rbac_v3,
)
from isthmus.filters.filter import Filter, http_filter
from isthmus.filters.rbac import NamedRule, build_rules
from isthmus.model.match import Exact
from isthmus.model.predicate import Header, Not

NAME = "isthmus.proxy_authorization"
POLICY = "isthmus-proxy-authorization"
"""The policy in ``%RESPONSE_CODE_DETAILS%`` of a request without the credential."""

_HEADER = "proxy-authorization"
_CHALLENGE = 'Basic realm="isthmus"'
_PROXY_AUTHENTICATION_REQUIRED = 407


@dataclass(frozen=True, slots=True)
class ProxyAuthorization:
    """``credential``: the value of ``proxy-authorization`` to demand (``Basic ...``)."""

    credential: str = field(repr=False)


def _build(config: ProxyAuthorization) -> tuple[Any, ...]:
    if not config.credential:
        raise ValueError("an empty credential would open the proxy to everybody")
    strangers = NamedRule(POLICY, Not(Header(_HEADER, Exact(config.credential))))
    rules = build_rules(rbac_config_v3.RBAC.DENY, [strangers])
    guard = rbac_v3.RBAC(rules=rules, rules_stat_prefix="isthmus_proxy_authorization_")
    strip = header_mutation_filter_v3.HeaderMutation(
        mutations=header_mutation_filter_v3.Mutations(
            request_mutations=[mutation_rules_v3.HeaderMutation(remove=_HEADER)]
        )
    )
    return http_filter(NAME, guard), http_filter(f"{NAME}.strip", strip)


def local_reply_mapper() -> Any:
    """A LocalReplyConfig that makes this filter's denial, and no other 403, a 407 with its challenge.

    Source: RFC 9110, sections 11.7.1 and 15.5.8.
    """
    # Not by the filter's dynamic metadata: Envoy writes that after the local reply is made.
    expression = f"response.code_details == 'rbac_access_denied_matched_policy[{POLICY}]'"
    ours = accesslog_v3.ExtensionFilter(
        name="envoy.access_loggers.extension_filters.cel",
        typed_config=any_of(cel_access_log_filter_v3.ExpressionFilter(expression=expression)),
    )
    challenge = core_v3.HeaderValue(key="proxy-authenticate", value=_CHALLENGE)
    mapper = http_connection_manager_v3.ResponseMapper(
        filter=accesslog_v3.AccessLogFilter(extension_filter=ours),
        status_code=protobuf.UInt32Value(value=_PROXY_AUTHENTICATION_REQUIRED),
        body=core_v3.DataSource(inline_string="this proxy serves its own workload only\n"),
        headers_to_add=[core_v3.HeaderValueOption(header=challenge)],
    )
    return http_connection_manager_v3.LocalReplyConfig(mappers=[mapper])


PROXY_AUTHORIZATION = Filter(NAME, ProxyAuthorization, _build)
