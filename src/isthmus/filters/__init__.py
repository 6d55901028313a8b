"""Envoy's HTTP filters. ``FILTERS`` is the order of the chain: read it top to bottom as a request meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.filters.allow_policies import ALLOW_POLICIES
from isthmus.filters.cors import CORS
from isthmus.filters.decision_time import DECISION_TIME
from isthmus.filters.dynamic_forward_proxy import DYNAMIC_FORWARD_PROXY
from isthmus.filters.ext_authz import CUSTOM
from isthmus.filters.fault import FAULT
from isthmus.filters.filter import Filter
from isthmus.filters.jwt_authn import JWT_AUTHN
from isthmus.filters.proxy_authorization import PROXY_AUTHORIZATION
from isthmus.filters.rbac import ALLOW, AUDIT, DENY
from isthmus.filters.router import ROUTER

FILTERS: tuple[Filter[Any], ...] = (
    PROXY_AUTHORIZATION,
    CORS,  # before anybody is asked who he is: a browser's preflight brings no token (Istio: after access control)
    CUSTOM,  # before the token is verified, as in Istio: an external login service may be what makes the token
    JWT_AUTHN,
    ALLOW_POLICIES,
    AUDIT,
    DENY,
    ALLOW,
    DECISION_TIME,
    FAULT,
    DYNAMIC_FORWARD_PROXY,
    ROUTER,
)


def build_chain(configs: Mapping[type, Any]) -> list[Any]:
    """The HttpFilters of a connection manager, in the order of :data:`FILTERS`, from configurations by their type.

    Raises ValueError for a type that belongs to no filter: a policy must not get lost.
    """
    return [message for _, message in chain_parts(configs)]


def chain_parts(configs: Mapping[type, Any]) -> Iterator[tuple[Filter[Any], Any]]:
    """The same, each message with the filter that made it."""
    unknown = set(configs) - {filter_.config for filter_ in FILTERS}
    if unknown:
        raise ValueError(f"no filter takes {', '.join(sorted(config.__name__ for config in unknown))}")
    for filter_ in FILTERS:
        if filter_.config in configs:
            for message in filter_.build(configs[filter_.config]):
                yield filter_, message
