"""The filters that the routes of a program's own calls tell something, or ask."""

from __future__ import annotations

from typing import Any

from isthmus.filters.cors import Cors
from isthmus.filters.fault import Fault
from isthmus.filters.jwt_authn import JwtAuthn, JwtProviderConfig
from isthmus.xds.claim import routes_ask_claims
from isthmus.xds.context import Context
from isthmus.xds.token_rule import jwt_rules


def route_filters(context: Context) -> dict[type, Any]:
    """By the type of their configuration.

    Where they ask for claims, a token that the program sends is verified by the rules of its own workload, so that
    there is something to ask; nobody is refused here.
    """
    filters: dict[type, Any] = {Cors: Cors(), Fault: Fault()}
    rules = jwt_rules(context) if routes_ask_claims(context) else ()
    if rules:
        providers = tuple(JwtProviderConfig(rule, context.world.keys_of(rule).jwks) for rule in rules)
        filters[JwtAuthn] = JwtAuthn(providers, clear_route_cache=True, only_claims=True)
    return filters
