"""Envoy's HTTP filters. ``FILTERS`` is the order of the chain: read it top to bottom as a request meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.filters.access import ACCESS, ACCESS_REASONS
from isthmus.filters.allow_policies import ALLOW_POLICIES
from isthmus.filters.challenge import CHALLENGE
from isthmus.filters.cors import CORS
from isthmus.filters.credentials import CREDENTIALS
from isthmus.filters.decision_time import DECISION_TIME
from isthmus.filters.dynamic_forward_proxy import DYNAMIC_FORWARD_PROXY
from isthmus.filters.ext_authz import CUSTOM, CUSTOM_AFTER
from isthmus.filters.fault import FAULT
from isthmus.filters.filter import Filter
from isthmus.filters.global_limit import GLOBAL_LIMITS, OPEN_GLOBAL_LIMITS
from isthmus.filters.jwt_authn import JWT_AUTHN
from isthmus.filters.limit import CLIENT_LIMITS, EARLY_LIMITS, SHADOW_LIMITS
from isthmus.filters.limit_headers import LIMIT_HEADERS
from isthmus.filters.login_session import LOGIN_SESSION
from isthmus.filters.oauth2 import OAUTH2
from isthmus.filters.one_token import ONE_TOKEN
from isthmus.filters.proxy_authorization import PROXY_AUTHORIZATION
from isthmus.filters.rbac import ALLOW, AUDIT, DENY
from isthmus.filters.rego import REGO
from isthmus.filters.router import ROUTER

FILTERS: tuple[Filter[Any], ...] = (
    LIMIT_HEADERS,  # what it adds to answers, the limits behind it have said
    CHALLENGE,
    PROXY_AUTHORIZATION,
    CORS,  # before anybody is asked who he is: a browser's preflight brings no token (Istio: after access control)
    EARLY_LIMITS,  # by address, before anything is verified: that is what floods are for
    OAUTH2,  # whoever is sent away to log in is asked nothing else first
    LOGIN_SESSION,
    CUSTOM,  # before the token is verified, as in Istio: an external login service may be what makes the token
    ONE_TOKEN,
    JWT_AUTHN,
    CREDENTIALS,  # what Envoy cannot verify by itself: it may be about the token that was just verified
    ALLOW_POLICIES,
    AUDIT,
    DENY,
    ALLOW,
    ACCESS_REASONS,
    ACCESS,  # of everything that speaks of users the cheapest, and the last that needs nobody else's answer
    CUSTOM_AFTER,  # where an annotation moves a CUSTOM policy: its provider is told the verified claims
    REGO,  # our own policy service: what is refused by then never reaches it
    CLIENT_LIMITS,  # by what was verified; what may not pass takes nobody's share
    SHADOW_LIMITS,
    GLOBAL_LIMITS,  # last of all that refuse: it is dear, and counts
    OPEN_GLOBAL_LIMITS,
    DECISION_TIME,
    FAULT,
    DYNAMIC_FORWARD_PROXY,
    ROUTER,
)


def chain_parts(configs: Mapping[type, Any]) -> Iterator[tuple[Filter[Any], Any]]:
    """The HttpFilters of a connection manager, in the order of :data:`FILTERS`, from configurations by their type.

    Each with the filter that made it. Raises ValueError for a type that belongs to no filter: a policy must not get
    lost.
    """
    unknown = set(configs) - {filter_.config for filter_ in FILTERS}
    if unknown:
        raise ValueError(f"no filter takes {', '.join(sorted(config.__name__ for config in unknown))}")
    for filter_ in FILTERS:
        if filter_.config in configs:
            for message in filter_.build(configs[filter_.config]):
                yield filter_, message
