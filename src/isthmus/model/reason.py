"""Every reason for which a request is refused, one code each: the order is that in which signs are looked for.

To add one: an entry here (or in ``reason_identity.py``, ``reason_request.py``), beside those it belongs with. A
decision service that refuses says the code in its dynamic metadata (``reason`` of :data:`TELLERS`), and needs no sign.
Each code is asserted by name in a test (``tests/model/test_reason.py``); ``make docs`` writes its line into
``docs/reference/reasons.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.access import ACCESS_ON_TCP, NOTED_KEY, Check
from isthmus.model.consumer import CLIENT, EXTERNAL, EXTERNAL_KEY
from isthmus.model.reason_identity import CREDENTIAL_REASONS, IDENTITY_REASONS, TOKEN_REASONS
from isthmus.model.reason_request import REQUEST_REASONS, UPSTREAM_REASONS
from isthmus.model.refusal import (
    Details,
    DetailsBegin,
    Group,
    Noted,
    Reason,
    RuleHolding,
    RuleNamed,
    WrongPeer,
)

_RBAC = "rbac_access_denied_matched_policy["
_ACCESS, _LIMIT = Group.ACCESS, Group.LIMIT


@dataclass(frozen=True, slots=True)
class Teller:
    """A filter whose service says the code itself: where it refused (``details``), in ``reason`` of ``namespace``.

    ``but_not``: namespace and key of what is true while somebody else's service is asked, whose word is none.
    """

    details: str
    namespace: str
    but_not: tuple[str, str] | None = None


TELLERS: tuple[Teller, ...] = (
    Teller("ext_authz_denied", CLIENT, (EXTERNAL, EXTERNAL_KEY)),
    Teller("request_rate_limited", "envoy.filters.http.ratelimit"),
)
"""Asked before all signs. Services of ours write there; what an external CUSTOM provider does is no reason of ours."""
REASON_KEY = "reason"


def _missed(check: Check) -> Noted:
    """No rule of the AccessPolicies passed this check."""
    return Noted(f"{_RBAC}none]", "envoy.filters.http.rbac", NOTED_KEY, check.key)


ACCESS_REASONS: tuple[Reason, ...] = (
    Reason(
        "policy-broken",
        _ACCESS,
        403,
        "A policy for this place cannot be read.",
        "`isthmus analyze` says what is wrong with it; until it is mended everything it may mean is refused.",
        (RuleHolding("]-broken"),),
    ),
    Reason(
        "provider-unknown",
        _ACCESS,
        403,
        "Nobody is there who decides about this request.",
        "The CUSTOM policy names a provider that the mesh configuration has not (`extensionProviders`).",
        (RuleHolding("-deny-due-to-bad-CUSTOM-action"),),
    ),
    Reason(
        "provider-needs-http",
        _ACCESS,
        None,
        "Nobody decides about plain connections.",
        "A CUSTOM policy speaks of a TCP port: providers are asked about requests only.",
        (RuleHolding("-deny-due-to-CUSTOM-on-TCP"),),
    ),
    Reason(
        "peer-not-allowed",
        _ACCESS,
        403,
        "This caller is not among those allowed here.",
        "All rules name callers: compare `peer` of the access log with their `principals`, or namespaces.",
        (WrongPeer(), _missed(Check.PEER)),
    ),
    Reason(
        "not-authenticated",
        _ACCESS,
        401,
        "Only those who say who they are may do this.",
        "All rules of the AccessPolicies about this request ask for a token or a consumer; it brought neither, or no "
        "RequestAuthentication or ClientAuthentication here takes what it brought.",
        (_missed(Check.AUTHENTICATED),),
    ),
    Reason(
        "client-not-allowed",
        _ACCESS,
        403,
        "This client is not among those allowed here.",
        "Compare its consumer, plan and issuer with `consumers`, `plans` and `issuers` of the AccessPolicies; or it "
        "came with a token where they ask for a consumer, or the other way round.",
        (_missed(Check.CLIENT),),
    ),
    Reason(
        "scope-missing",
        _ACCESS,
        403,
        "The token lacks a scope that is needed.",
        "The rules of the AccessPolicies in force here tell the scopes; the token's claim `scope` must have them all.",
        (_missed(Check.SCOPES),),
    ),
    Reason(
        "group-missing",
        _ACCESS,
        403,
        "The caller is in none of the groups that may do this.",
        "The policy tells the groups, the `Consumer` or the token's claim who is in them.",
        (_missed(Check.GROUPS),),
    ),
    Reason(
        "condition-not-met",
        _ACCESS,
        403,
        "A condition for this request is not met.",
        "A rule would allow it but for its `when`: evaluate that with the values of the request.",
        (_missed(Check.CONDITION),),
    ),
    Reason(
        "no-rule",
        _ACCESS,
        403,
        "No rule allows this request.",
        "No rule of the AccessPolicies in force here matches it.",
        (_missed(Check.OPERATION),),
    ),
    Reason(
        "access-needs-http",
        _ACCESS,
        None,
        "Plain connections are not allowed here.",
        "A policy holds for this workload that speaks of requests alone: take the TCP port out of its reach.",
        (RuleNamed(ACCESS_ON_TCP),),
    ),
    Reason(
        "not-allowed",
        _ACCESS,
        403,
        "Nothing allows this request.",
        "`allow_policies` of the access log names the ALLOW rules, none of which matched.",
        (RuleNamed("none"),),
    ),
    Reason(
        "denied-by-policy",
        _ACCESS,
        403,
        "A policy forbids this request.",
        "`deny_policy` of the access log names it.",
        (DetailsBegin((_RBAC,)),),
    ),
    Reason(
        "rego-denied",
        _ACCESS,
        403,
        "A policy forbids this request.",
        "The decision log has the decision with its input.",
    ),
    Reason(
        "rego-undefined",
        _ACCESS,
        403,
        "No policy decides about this request.",
        "The Rego policy's decision is undefined for this input: give it `default allow := false` and see why.",
    ),
    Reason(
        "rego-error",
        _ACCESS,
        403,
        "The policy for this request could not be evaluated.",
        "The decision log has the error.",
    ),
    Reason(
        "provider-denied",
        _ACCESS,
        403,
        "An external service refused this request.",
        "`custom_policy_0` of the access log names the policy, and that the provider. The status is the provider's.",
        (Details(("ext_authz_denied",)),),
    ),
    Reason(
        "policy-service-unavailable",
        _ACCESS,
        403,
        "The service that decides about this request did not answer.",
        "A provider, or a decision service of the node, is away or slow; a provider's `statusOnError` is the status.",
        (Details(("ext_authz_error",)),),
    ),
)

LIMIT_REASONS: tuple[Reason, ...] = (
    Reason(
        "quota-exhausted",
        _LIMIT,
        429,
        "The quota is used up.",
        "Wait for the next period, or give the consumer another plan.",
    ),
    Reason(
        "concurrency-limited",
        _LIMIT,
        429,
        "Too many requests at the same time.",
        "Wait for answers before asking more; or the RateLimitPolicy allows more.",
    ),
    Reason(
        "rate-limited",
        _LIMIT,
        429,
        "Too many requests.",
        "Wait as long as `Retry-After` says; or the RateLimitPolicy allows more.",
        (Details(("local_rate_limited", "request_rate_limited")),),
    ),
    Reason(
        "limit-service-unavailable",
        _LIMIT,
        503,
        "Whether this is too much could not be found out.",
        "The limit service, or the Redis behind it, is away; what happens then is the RateLimitPolicy's to say.",
        (Details(("rate_limiter_error",)),),
    ),
)

REASONS: tuple[Reason, ...] = (
    *TOKEN_REASONS,
    *CREDENTIAL_REASONS,
    *IDENTITY_REASONS,
    *ACCESS_REASONS,
    *LIMIT_REASONS,
    *REQUEST_REASONS,
    *UPSTREAM_REASONS,
)
