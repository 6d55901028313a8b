"""Which RequestAuthentications speak of a proxy, and what they make of its tokens where nobody says more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from isthmus.filters.jwt_authn import JwtAuthn, JwtProviderConfig
from isthmus.model.policy import JwtRule, RequestAuthentication
from isthmus.model.proxy import Role
from isthmus.model.selector import Scope
from isthmus.xds.claim import routes_ask_claims
from isthmus.xds.context import Context


class Scoped(Protocol):
    """Any policy that selects proxies."""

    @property
    def scope(self) -> Scope: ...


P = TypeVar("P", bound=Scoped)


def selected(context: Context, policies: Iterable[P]) -> tuple[P, ...]:
    """The policies that speak of the proxy; those of the root namespace and of its own are united."""
    namespaces = context.policy_namespaces
    labels = context.proxy.labels
    return tuple(
        policy for policy in policies if any(policy.scope.selects(namespace, labels) for namespace in namespaces)
    )


def request_policies(context: Context) -> tuple[RequestAuthentication, ...]:
    return context.aspect(_request)


def _request(context: Context) -> tuple[RequestAuthentication, ...]:
    return selected(context, context.mesh.policies_in("request", context.policy_namespaces))


def jwt_rules(context: Context) -> tuple[JwtRule, ...]:
    """The token rules for the proxy, merged and sorted by issuer, as Istio does."""
    rules = (rule for policy in request_policies(context) for rule in policy.rules)
    return tuple(sorted(rules, key=lambda rule: rule.issuer))


def jwt_authn(context: Context) -> JwtAuthn:
    """What Istio makes of them: a valid token of any of the issuers, or none."""
    return JwtAuthn(
        tuple(JwtProviderConfig(rule, context.world.keys_of(rule).jwks) for rule in jwt_rules(context)),
        clear_route_cache=context.proxy.role is Role.GATEWAY and routes_ask_claims(context),
    )
