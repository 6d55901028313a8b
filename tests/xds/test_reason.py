"""What the expressions say of each sign, by the same engine that Envoy has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from cel_expr_python import cel

from isthmus.envoy_api import to_json
from isthmus.filters.allow_policies import NAMESPACE, PEERS_KEY
from isthmus.model.client_traffic import Problems
from isthmus.model.consumer import CLIENT, EXTERNAL, EXTERNAL_KEY
from isthmus.model.reason import REASONS
from isthmus.model.refusal import Details, Group
from isthmus.xds.problem import CONTENT_TYPE, agreed, problem_mapper
from isthmus.xds.reason import DENIED_CODE, reason_of_connection, reason_of_request, reasons_at

BY_CODE = {reason.code: reason for reason in REASONS}
_NAMES = ("response", "metadata", "xds", "connection", "request")
ALL = reason_of_request(REASONS)
RBAC = "rbac_access_denied_matched_policy["
PEER = "spiffe://cluster.local/ns/shop/sa/web"
NOBODY = {"mtls": False}


@cache
def _environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys(_NAMES, cel.Type.DYN))


@cache
def _compiled(expression: str) -> Any:
    return _environment().compile(expression)


def evaluated(
    expression: str,
    details: str,
    metadata: Mapping[str, Any] | None = None,
    connection: Mapping[str, Any] = NOBODY,
    route: str = "",
    status: int = 403,
) -> object:
    """None for null, and for an error: Envoy tells neither."""
    attributes = {
        "response": {"code_details": details, "code": status},
        "metadata": {"filter_metadata": metadata or {}},
        "xds": {"route_name": route},
        "connection": {**connection, "termination_details": details},
        "request": {"headers": {}},
    }
    found = _compiled(expression).eval(data=attributes)
    return None if found.type() == cel.Type.ERROR else found.value()


@pytest.mark.parametrize(
    "details", ["via_upstream", "direct_response", "fault_filter_abort", "downstream_remote_disconnect", ""]
)
def test_what_is_not_refused_has_no_reason(details: str) -> None:
    assert evaluated(ALL, details) is None
    assert not evaluated(DENIED_CODE, details)


@pytest.mark.parametrize(
    ("details", "code"),
    [(text, one.code) for one in REASONS for sign in one.signs if isinstance(sign, Details) for text in sign.texts],
)
def test_each_text_of_a_sign_is_its_reason(details: str, code: str) -> None:
    assert evaluated(ALL, details) == code
    denied = BY_CODE[code].group is not Group.UPSTREAM
    assert (evaluated(DENIED_CODE, details) or "") == (code if denied else "")


@pytest.mark.parametrize(
    ("details", "code"),
    [
        (f"{RBAC}none]", "not-allowed"),
        (f"{RBAC}ns[shop]-policy[none]-rule[0]]", "denied-by-policy"),
        (f"{RBAC}ns[shop]-policy[x-broken]-rule[0]]", "denied-by-policy"),
        (f"{RBAC}ns[shop]-policy[isthmus-revoked-identity]-rule[0]]", "denied-by-policy"),
        (f"{RBAC}ns[shop]-policy[a]-broken]", "policy-broken"),
        (f"{RBAC}ns[shop]-policy[a]-broken-same[1]]", "policy-broken"),
        (f"{RBAC}ns[a]-policy[a]-rule[0]-deny-due-to-bad-CUSTOM-action]", "provider-unknown"),
        (f"{RBAC}isthmus-revoked-identity]", "identity-revoked"),
        (f"{RBAC}isthmus-proxy-authorization]", "proxy-credential-invalid"),
        ("jwt_authn_access_denied{Jwt_payload_is_an_invalid_JSON}", "jwt-malformed"),
        ("http1.codec_error", "protocol-error"),
        ("http2.violation.of.messaging.rule", "protocol-error"),
        ("http2.too_many_headers", "headers-too-large"),
        ("upstream_reset_before_response_started{connection_failure}", "upstream-unavailable"),
        ("upstream_reset_before_response_started{overflow}", "upstream-overflow"),
        ("upstream_reset_after_response_started{connection_termination}", "upstream-broken"),
        ("overload", "overloaded"),
        ("request_payload_too_large", "body-too-large"),
        ("filter_removed_required_request_headers{invalid_header_value_for:_x-user-id}", "claim-unfit"),
        ("filter_removed_required_headers", "upstream-broken"),
        ("rate_limiter_error", "limit-service-unavailable"),
        ("jwt_authn_access_denied{Jwt_is_missing}", "token-missing"),
        ("request_header_timeout", "request-timeout"),
        ("missing_host_header", "host-invalid"),
        ("filter_chain_not_found", "server-unknown"),
    ],
)
def test_details_as_envoy_writes_them(details: str, code: str) -> None:
    assert evaluated(ALL, details) == code


def test_routes_of_ours_refuse_and_those_of_others_answer() -> None:
    assert evaluated(ALL, "direct_response", route="elsewhere", status=421) == "misdirected"
    assert evaluated(ALL, "direct_response", route="block_all", status=502) == "host-not-registered"
    assert evaluated(ALL, "direct_response", route="block_all", status=200) is None
    assert evaluated(ALL, "direct_response", route="teapot", status=421) is None


def test_where_all_rules_name_callers_a_wrong_one_is_told() -> None:
    asked = {NAMESPACE: {PEERS_KEY: f"^({PEER})$"}}
    none = f"{RBAC}none]"
    right, wrong = ({"mtls": True, "uri_san_peer_certificate": peer} for peer in (PEER, f"{PEER}x"))
    assert evaluated(ALL, none, asked, right) == "not-allowed"
    assert evaluated(ALL, none, asked, wrong) == "peer-not-allowed"
    assert evaluated(ALL, none, asked, NOBODY) == "peer-not-allowed"
    assert evaluated(ALL, none, {NAMESPACE: {}}, wrong) == "not-allowed"
    assert evaluated(reason_of_connection(f"^({PEER})$"), none, None, wrong) == "peer-not-allowed"
    assert evaluated(reason_of_connection(f"^({PEER})$"), none, None, right) == "not-allowed"
    assert evaluated(reason_of_connection(None), none, None, wrong) == "not-allowed"


def test_a_decision_service_says_it_itself() -> None:
    told = {CLIENT: {"reason": "scope-missing"}}
    assert evaluated(ALL, "ext_authz_denied", told) == "scope-missing"
    assert evaluated(ALL, "ext_authz_denied", {CLIENT: {"consumer": "partner"}}) == "provider-denied"
    assert evaluated(ALL, "ext_authz_denied") == "provider-denied"
    assert evaluated(ALL, "ext_authz_error", told) == "policy-service-unavailable"
    assert evaluated(ALL, "via_upstream", told) is None
    limited = {"envoy.filters.http.ratelimit": {"reason": "quota-exhausted"}}
    assert evaluated(ALL, "request_rate_limited", limited) == "quota-exhausted"
    assert evaluated(ALL, "request_rate_limited", told) == "rate-limited"
    assert evaluated(DENIED_CODE, "ext_authz_denied", told) == "scope-missing"


def test_what_an_external_provider_says_is_no_reason() -> None:
    said = {CLIENT: {"reason": "jwt-expired", "answered": True}, EXTERNAL: {EXTERNAL_KEY: True}}
    assert evaluated(ALL, "ext_authz_denied", said) == "provider-denied"
    assert evaluated(DENIED_CODE, "ext_authz_denied", said) == "provider-denied"
    assert not applies("ext_authz_denied", metadata=said)
    ours = {CLIENT: {"reason": "api-key-unknown", "answered": False}, EXTERNAL: {EXTERNAL_KEY: False}}
    assert evaluated(ALL, "ext_authz_denied", ours) == "api-key-unknown"
    assert applies("ext_authz_denied", metadata=ours)


def test_a_connection_is_closed_by_policies_alone() -> None:
    expression = reason_of_connection(None)
    assert evaluated(expression, f"{RBAC}isthmus-ambiguous-peer]") == "peer-ambiguous"
    assert evaluated(expression, f"{RBAC}isthmus-ca-peer]") == "peer-is-ca"
    assert evaluated(expression, f"{RBAC}ns[a]-policy[a]-rule[0]-deny-due-to-CUSTOM-on-TCP]") == "provider-needs-http"
    assert evaluated(expression, f"{RBAC}ns[a]-policy[a]-rule[0]]") == "denied-by-policy"
    assert evaluated(expression, "route_not_found") is None
    assert evaluated(expression, "") is None


def test_a_programs_own_calls_are_refused_for_less() -> None:
    outbound = reason_of_request(reasons_at("outbound"))
    assert evaluated(outbound, f"{RBAC}isthmus-proxy-authorization]") == "proxy-credential-invalid"
    assert evaluated(outbound, "route_not_found") == "route-not-found"
    assert evaluated(outbound, f"{RBAC}none]") is None
    assert len(outbound) < len(ALL) / 1.5
    assert reasons_at("inbound") == reasons_at("gateway") == REASONS


def applies(details: str, **more: Any) -> bool:
    expression = to_json(problem_mapper(Problems(reason=True)))["filter"]["extension_filter"]["typed_config"][
        "expression"
    ]
    return evaluated(expression, details, **more) is True


def test_a_problem_document_is_of_refusals_that_nobody_else_answers() -> None:
    assert applies("route_not_found")
    assert applies("ext_authz_denied", metadata={CLIENT: {"reason": "api-key-unknown"}})
    assert not applies("ext_authz_denied", metadata={CLIENT: {"reason": "rego-denied", "answered": True}})
    assert not applies("ext_authz_denied"), "an external provider's own"
    assert not applies("direct_response")
    assert not applies("via_upstream")


def test_the_document_with_its_reason_and_without() -> None:
    full, plain = (to_json(problem_mapper(each)) for each in (Problems(reason=True), Problems()))
    assert full["body_format_override"]["content_type"] == CONTENT_TYPE
    document = full["body_format_override"]["json_format"]
    assert document.keys() == {"reason", "status", "title", "type"}
    title = document["title"].removeprefix("%CEL(").removesuffix(")%")
    assert evaluated(title, "route_not_found") == BY_CODE["route-not-found"].about
    told = {CLIENT: {"reason": "api-key-unknown"}}
    assert evaluated(title, "ext_authz_denied", told) == BY_CODE["api-key-unknown"].about
    told_by_rule = {CLIENT: {"reason": "no-rule"}}
    assert evaluated(title, "ext_authz_denied", told_by_rule) == BY_CODE["no-rule"].about
    document = plain["body_format_override"]["json_format"]
    assert document.keys() == {"status", "title", "type"}
    title = document["title"].removeprefix("%CEL(").removesuffix(")%")
    assert evaluated(title, "route_not_found", status=404) == "Not Found"
    assert evaluated(title, "route_not_found", status=499) == "Error"


def test_servers_of_one_connection_manager_say_the_same_or_nothing() -> None:
    assert agreed([Problems(), Problems()]) == Problems()
    assert agreed([Problems(), None]) is None
    assert agreed([Problems(), Problems(reason=True)]) is None
    assert agreed([]) is None
