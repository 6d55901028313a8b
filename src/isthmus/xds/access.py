"""What AccessPolicies tell the filter: the rules of a port, and those of an http route where these are others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from isthmus.filters.access import Access, AccessReasons
from isthmus.model.access import AccessPolicy, AccessRule
from isthmus.model.attachment import RoutePlace
from isthmus.model.client_authentication import API_KEY_SCHEME, ClientAuthentication
from isthmus.model.predicate import Destination
from isthmus.xds.attached import RoutePolicy, attached, concerns, policies_at, policies_of
from isthmus.xds.claim import chosen_anew
from isthmus.xds.context import Context
from isthmus.xds.token_rule import jwt_rules

_KIND = "access"


def _chain(context: Context, at: Destination) -> dict[type, Any]:
    """Where only routes have policies, the filter has no effect on the others."""
    held: tuple[AccessPolicy, ...] = policies_of(context, _KIND)
    by_route = any(policy.attachment.targets for policy in attached(context, _KIND))
    # Routes may take tokens of other issuers, and have no AccessPolicy of their own.
    rules = _rules(held, at, len(context.aspect(_issuers))) if held else None
    return _told(Access(rules, context.aspect(_introspects), by_route))


def _route(context: Context, at: Destination, place: RoutePlace) -> dict[type, Any]:
    rules = _rules(policies_at(context, _KIND, place), at, len(_issuers_at(context, place)))
    return _told(Access(rules, context.aspect(_introspects)))


def _told(access: Access) -> dict[type, Any]:
    return {AccessReasons: AccessReasons(access), Access: access}


def challenge(context: Context) -> str | None:
    """What a proxy tells those who lack a credential that an AccessPolicy asks for; None: no policy is about it."""
    return context.aspect(_challenge)


def _challenge(context: Context) -> str | None:
    if not concerns(context, _KIND):
        return None
    policies: tuple[ClientAuthentication, ...] = attached(context, "clients")
    return ", ".join(("Bearer", API_KEY_SCHEME)) if any(policy.api_keys for policy in policies) else "Bearer"


def _rules(policies: Iterable[AccessPolicy], at: Destination, issuers: int) -> tuple[AccessRule, ...]:
    each = (rule.at(at, issuers=issuers) for policy in policies for rule in policy.rules)
    return tuple(rule for rule in each if rule is not None)


def _issuers(context: Context) -> frozenset[str]:
    """Of whom any route of the proxy may take a token."""
    policies: tuple[ClientAuthentication, ...] = attached(context, "clients")
    return frozenset((*_verified(context), *(issuer for policy in policies for issuer in policy.token_issuers)))


def _issuers_at(context: Context, place: RoutePlace) -> frozenset[str]:
    """Of whom one http route takes a token: where a ClientAuthentication names some, of nobody else.

    Where routes are chosen anew, a request may come from one that took another's token, with a key that is good here.
    """
    if chosen_anew(context):
        return context.aspect(_issuers)
    policies: tuple[ClientAuthentication, ...] = policies_at(context, "clients", place)
    named = frozenset(issuer for policy in policies for issuer in policy.token_issuers)
    return named or frozenset(_verified(context))


def _verified(context: Context) -> Iterator[str]:
    return (rule.issuer for rule in jwt_rules(context))


def _introspects(context: Context) -> bool:
    """Whether any token may be known from its issuer's answer."""
    policies: tuple[ClientAuthentication, ...] = attached(context, "clients")
    return any(policy.introspection for policy in policies)


ACCESS = RoutePolicy(_KIND, _chain, _route)
