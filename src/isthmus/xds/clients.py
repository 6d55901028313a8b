"""ClientAuthentication in the proxy: what jwt_authn asks for, and whether the credentials process is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from isthmus.filters.challenge import Challenge
from isthmus.filters.credentials import Credentials
from isthmus.filters.jwt_authn import JwtAuthn, JwtProviderConfig, JwtRequirement, JwtRoute, Missing
from isthmus.filters.one_token import OneToken, token_places
from isthmus.model.attachment import RoutePlace, Target
from isthmus.model.client_authentication import Accepted, ClientAuthentication, united
from isthmus.model.oidc import logins_of
from isthmus.model.policy import JwtRule
from isthmus.model.predicate import Destination
from isthmus.xds.attached import RoutePolicy, attached, policies_at, policies_of
from isthmus.xds.claim import chosen_anew, routes_ask_claims
from isthmus.xds.context import Context
from isthmus.xds.token_rule import jwt_authn, jwt_rules

_KIND = "clients"


def _chain(context: Context, at: Destination) -> Mapping[type, Any]:
    return context.aspect(_of_chain)


def _of_chain(context: Context) -> Mapping[type, Any]:
    everywhere = united(policies_of(context, _KIND))
    policies = attached(context, _KIND)
    places = [*_by_target(policies).values(), *([everywhere] if everywhere is not None else ())]
    wanted = [_jwt_route(context, accepted).requirement for accepted in places]
    base = jwt_authn(context)
    requirements = tuple(dict.fromkeys(each for each in (*wanted, *_alone(wanted)) if each is not None))
    found: dict[type, Any] = {
        Challenge: Challenge(),
        JwtAuthn: replace(
            base,
            rules=(*base.rules, *_nobodys(base, policies), *_of_logins(context, policies)),
            everywhere=None if everywhere is None else _jwt_route(context, everywhere),
            requirements=requirements,
        ),
    }
    if len((once := token_places(jwt_rules(context), opaque=any(policy.introspection for policy in policies))).all) > 1:
        found[OneToken] = once
    if any(_asks(context, accepted) for accepted in places):
        found[Credentials] = replace(
            _credentials(context, everywhere), headers=_key_headers(policies), chosen_anew=chosen_anew(context)
        )
    return found


def _route(context: Context, at: Destination, place: RoutePlace) -> Mapping[type, Any]:
    accepted = united(policies_at(context, _KIND, place))
    if accepted is None:
        return {}
    found: dict[type, Any] = {JwtRoute: _jwt_route(context, accepted)}
    if Credentials in _chain(context, at):
        found[Credentials] = _credentials(context, accepted)
    return found


def _unnamed(context: Context, at: Destination) -> Mapping[type, Any]:
    asked = _chain(context, at).get(Credentials)
    return {Credentials: Credentials(None)} if asked is not None and asked.accepts is None and asked.chosen_anew else {}


def _by_target(policies: Iterable[ClientAuthentication]) -> dict[Target, Accepted]:
    """What holds wherever the target is the closest that any policy names: equally close ones name the same."""
    grouped: dict[Target, list[ClientAuthentication]] = {}
    for policy in policies:
        for target in dict.fromkeys(policy.attachment.targets):
            grouped.setdefault(target, []).append(policy)
    found = ((target, united(group)) for target, group in grouped.items())
    return {target: accepted for target, accepted in found if accepted is not None}


def _asks(context: Context, accepted: Accepted) -> bool:
    """Whether the process must be asked.

    Where a verified token may still change the route, what jwt_authn asked for was another route's demand: then the
    process looks whose token it is, after the choice.
    """
    return accepted.asks or (bool(accepted.issuers or accepted.oidc) and routes_ask_claims(context))


def _credentials(context: Context, accepted: Accepted | None) -> Credentials:
    return Credentials(accepted.text if accepted is not None and _asks(context, accepted) else None)


def _jwt_route(context: Context, accepted: Accepted) -> JwtRoute:
    """What is asked of tokens.

    Where none are a method, RequestAuthentications hold as they do elsewhere: a bad token is refused. Where opaque ones
    are, each is the process's to judge: what stands in their place need not be a JWT.
    """
    logins = tuple(login.key for login in accepted.oidc[:1])
    if not accepted.issuers and not logins:
        issuers = tuple(dict.fromkeys(rule.issuer for rule in jwt_rules(context)))
        nothing = accepted.introspection is not None or not issuers
        return JwtRoute(None if nothing else JwtRequirement(issuers, Missing.ALLOWED))
    if accepted.introspection is not None:
        return JwtRoute(JwtRequirement(accepted.issuers, Missing.WHATEVER, logins))
    alone = (accepted.required or bool(logins)) and not _asks(context, accepted)
    return JwtRoute(JwtRequirement(accepted.issuers, Missing.REFUSED if alone else Missing.ALLOWED, logins))


def _alone(wanted: Iterable[JwtRequirement | None]) -> list[JwtRequirement]:
    """Each issuer by itself, too: a route may come to ask for one of them before the filter has heard of it."""
    issuers = sorted({issuer for each in wanted if each is not None for issuer in each.issuers})
    logins = sorted({key for each in wanted if each is not None for key in each.logins})
    of_logins = [JwtRequirement((), Missing.REFUSED, (key,)) for key in logins]
    return [*(JwtRequirement((issuer,), Missing.REFUSED) for issuer in issuers), *of_logins]


def _nobodys(base: JwtAuthn, policies: Iterable[ClientAuthentication]) -> tuple[JwtProviderConfig, ...]:
    """Issuers of which no RequestAuthentication in force here says where their keys are: no token of theirs is good."""
    known = {one.rule.issuer for one in base.rules}
    wanted = {issuer: policy.origin for policy in policies for method in policy.jwt for issuer in method.issuers}
    return tuple(
        JwtProviderConfig(JwtRule(issuer, origin), None)
        for issuer, origin in sorted(wanted.items(), key=lambda one: one[0])
        if issuer not in known
    )


def _of_logins(context: Context, policies: Iterable[ClientAuthentication]) -> tuple[JwtProviderConfig, ...]:
    """What verifies the ID tokens of sessions."""
    rules = ((login.rule, login.key) for login in logins_of(policies))
    return tuple(JwtProviderConfig(rule, context.world.keys_of(rule).jwks, key) for rule, key in rules)


def _key_headers(policies: Iterable[ClientAuthentication]) -> tuple[str, ...]:
    names = {name for policy in policies for method in policy.api_keys for name in method.headers}
    return tuple(sorted(names))


CLIENTS = RoutePolicy(_KIND, _chain, _route, _unnamed)
