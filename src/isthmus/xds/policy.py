"""Which policies speak of a proxy, and the filter configurations they become for one of its ports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.diag import Origin
from isthmus.filters.allow_policies import AllowPolicies
from isthmus.filters.cors import Cors
from isthmus.filters.credentials import Credentials, client_log_fields
from isthmus.filters.decision_time import DecisionTime
from isthmus.filters.ext_authz import Custom, CustomAfter, CustomProvider, custom_log_fields
from isthmus.filters.fault import Fault
from isthmus.filters.global_limit import GlobalLimits, OpenGlobalLimits, limit_log_fields
from isthmus.filters.jwt_authn import JwtAuthn, reserved_headers
from isthmus.filters.one_token import OneToken, token_places
from isthmus.filters.rbac import Allow, Audit, Deny, NamedRule, build_network
from isthmus.filters.rego import Rego, decision_log_fields
from isthmus.filters.router import Router
from isthmus.model.access import ACCESS_ON_TCP
from isthmus.model.asked_peer import asked_peers
from isthmus.model.consumer import CONSUMER_HEADER
from isthmus.model.decision import DecisionService
from isthmus.model.match import Exact, Regex, Suffix
from isthmus.model.mesh import Mesh
from isthmus.model.policy import Action, AuthorizationPolicy, Broken
from isthmus.model.predicate import (
    FALSE,
    TRUE,
    All,
    AnyOf,
    Destination,
    Host,
    Not,
    Peer,
    Predicate,
    all_of,
    any_of,
    bind,
    needs_http,
    negate,
    widen_for_tcp,
)
from isthmus.model.proxy import Role
from isthmus.model.route import Destination as RouteDestination
from isthmus.xds.context import Context
from isthmus.xds.decision import decision_cluster
from isthmus.xds.observe import tracing_at
from isthmus.xds.oidc import login_headers, login_keys
from isthmus.xds.own_rule import own_rules
from isthmus.xds.route_policy import chain_configs, route_origins
from isthmus.xds.token_rule import jwt_authn, jwt_rules, request_policies, selected

REVOKED = "isthmus-revoked-identity"
"""The rule that refuses a revoked identity, as access logs name it."""


# Each a part by itself: most proxies' policies are the same when somebody else's change.


def authorization_policies(context: Context) -> tuple[AuthorizationPolicy, ...]:
    return context.aspect(_authorization)


def _authorization(context: Context) -> tuple[AuthorizationPolicy, ...]:
    return selected(context, context.mesh.policies_in("authorization", context.policy_namespaces))


def _broken_policies(context: Context) -> tuple[Broken, ...]:
    return selected(context, context.mesh.policies_in("broken", context.policy_namespaces))


def output_headers(context: Context) -> tuple[str, ...]:
    """The headers that this proxy's own token rules set."""
    return reserved_headers(jwt_rules(context))


def edge_headers(mesh: Mesh) -> tuple[str, ...]:
    """Everything that only the inside of the mesh may set."""
    tokens = reserved_headers(rule for policy in mesh.policies.request for rule in policy.rules)
    return (*tokens, *_certificate_headers(mesh), *login_headers(mesh))


def certificate_headers(context: Context) -> tuple[str, ...]:
    """The headers in which any gateway tells of its client: no program may say so of itself either."""
    return context.aspect(_told)


def _told(context: Context) -> tuple[str, ...]:
    return _certificate_headers(context.mesh)


def _certificate_headers(mesh: Mesh) -> tuple[str, ...]:
    told = (server.client_traffic.headers for gateway in mesh.gateways for server in gateway.servers)
    certificates = sorted({one.certificate for one in told if one.certificate is not None})
    return (*certificates, *((CONSUMER_HEADER,) if mesh.policies.clients else ()))


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """The filter configurations of one HTTP port, and the policies that they were made of."""

    filters: dict[type, Any]
    origins: tuple[Origin, ...]

    @property
    def log_fields(self) -> Mapping[str, str]:
        """What the access log can tell of clients, of CUSTOM policies, and of limits."""
        custom = custom_log_fields(self.filters.get(Custom), self.filters.get(CustomAfter))
        clients = client_log_fields() if Credentials in self.filters else {}
        limits = limit_log_fields() if {GlobalLimits, OpenGlobalLimits} & self.filters.keys() else {}
        return {**clients, **custom, **limits, **(decision_log_fields() if self._asks_rego else {})}

    @property
    def _asks_rego(self) -> bool:
        customs = (self.filters.get(Custom), self.filters.get(CustomAfter))
        asked = (one for custom in customs if custom is not None for one in custom.providers)
        return Rego in self.filters or any(one.provider.rego is not None for one in asked)


def http_policy(context: Context, at: Destination) -> HttpPolicy:
    """What the policies make of one port. The usual filters are always there: policies come without a new listener."""
    policies = authorization_policies(context)
    edge = context.proxy.role is Role.GATEWAY
    providers, unknown = _custom(context, policies, at, after=False)
    later, unknown_later = _custom(context, policies, at, after=True)
    tokens = jwt_authn(context)
    own = own_rules(tokens, edge=edge, logins=login_keys(context))
    first = (*_revoked(context), *own, *_broken(context))
    denied = (*first, *unknown, *unknown_later, *_rules(policies, Action.DENY, at))
    allow = _allow(policies, at)
    filters: dict[type, Any] = {
        JwtAuthn: tokens,
        AllowPolicies: _allowing(allow.rules or ()),
        Deny: Deny(denied, _rules(policies, Action.DENY, at, dry_run=True)),
        Allow: allow,
        Fault: Fault(),
        Router: Router(suppress_envoy_headers=edge),
    }
    if edge:
        filters[Cors] = Cors()
    if tracing_at(context, "gateway" if edge else "inbound") is not None:
        filters[DecisionTime] = DecisionTime()
    places = token_places(one.rule for one in tokens.rules)
    if len(places.all) > 1 and any(one.rule.output_headers for one in tokens.rules):
        # Headers are made of the claims of either token; which of them a program reads, nobody knows.
        filters[OneToken] = places
    if providers:
        filters[Custom] = Custom(providers)
    if later:
        filters[CustomAfter] = CustomAfter(later)
    filters.update(chain_configs(context, at))
    audited = _rules(policies, Action.AUDIT, at)
    if audited:
        filters[Audit] = Audit(audited)
    requests = tuple(policy.origin for policy in request_policies(context))
    origins = (*(policy.origin for policy in policies), *requests, *route_origins(context))
    return HttpPolicy(filters, origins)


def tcp_filters(
    context: Context, at: Destination, stat_prefix: str, *, closed: bool
) -> tuple[tuple[Any, ...], AllowPolicies]:
    """The network filters of one plain TCP port: a rule that needs HTTP allows nothing here, and denies more.

    No provider is asked about a plain connection yet, so what a CUSTOM rule speaks of is denied. ``closed``: a policy
    that speaks of requests alone closes all of it (``xds/closed_tcp.py``).
    """
    policies = authorization_policies(context)
    unasked = (
        NamedRule(f"{rule.name}-deny-due-to-CUSTOM-on-TCP", rule.predicate, rule.origin)
        for rule in _rules(policies, Action.CUSTOM, at)
    )
    closing = (*unasked, *_rules(policies, Action.DENY, at))
    by_kind = (NamedRule(ACCESS_ON_TCP, TRUE),) if closed else ()
    denied = (*_revoked(context), *_broken(context), *by_kind, *(_widened(rule) for rule in closing))
    allow = _allow(policies, at)
    allowed = None if allow.rules is None else _answerable(allow.rules)
    wanted: list[Audit | Deny | Allow] = [
        Audit(tuple(_widened(rule) for rule in _rules(policies, Action.AUDIT, at))),
        Deny(denied, tuple(_widened(rule) for rule in _rules(policies, Action.DENY, at, dry_run=True))),
        Allow(allowed, _answerable(allow.dry_run)),
    ]
    filters = tuple(build_network(one, stat_prefix) for one in wanted if _does_something(one))
    return filters, _allowing(allowed or ())


def _allowing(rules: Sequence[NamedRule]) -> AllowPolicies:
    return AllowPolicies(tuple(rule.name for rule in rules), asked_peers(rule.predicate for rule in rules))


def _does_something(one: Audit | Deny | Allow) -> bool:
    match one:
        case Audit(rules):
            return bool(rules)
        case Deny(rules, dry_run):
            return bool(rules or dry_run)
        case Allow(rules, dry_run):
            return rules is not None or bool(dry_run)


def _answerable(rules: Iterable[NamedRule]) -> tuple[NamedRule, ...]:
    """The ALLOW rules that a plain connection can satisfy."""
    return tuple(rule for rule in rules if not needs_http(rule.predicate))


def _widened(rule: NamedRule) -> NamedRule:
    return NamedRule(rule.name, widen_for_tcp(rule.predicate), rule.origin)


def _rules(
    policies: Iterable[AuthorizationPolicy], action: Action, at: Destination, *, dry_run: bool = False
) -> tuple[NamedRule, ...]:
    """The rules of one action that can match at all at this port."""
    return tuple(
        rule
        for policy in policies
        if policy.action is action and policy.dry_run is dry_run
        for rule in _bound(policy, at)
    )


def _bound(policy: AuthorizationPolicy, at: Destination) -> Iterator[NamedRule]:
    for index, rule in enumerate(policy.rules):
        predicate = _whatever_port(bind(rule.predicate, at), wide=policy.action is not Action.ALLOW)
        if predicate != FALSE:
            yield NamedRule(policy.rule_name(index), predicate, rule.origin)


def _whatever_port(predicate: Predicate, *, wide: bool) -> Predicate:
    """A host without a port is that host on whichever port: routes are found so, and ports are published anywhere.

    ``wide``, for rules that refuse: what may be that host to anybody, and each hop takes a dot off its end. Else what
    is that host to the routes: Envoy leaves out all behind the last colon, so ``a.example:.b.example`` is the former.
    """
    match predicate:
        case All(parts):
            return all_of(*(_whatever_port(part, wide=wide) for part in parts))
        case AnyOf(parts):
            return any_of(*(_whatever_port(part, wide=wide) for part in parts))
        case Not(part):
            return negate(_whatever_port(part, wide=not wide))
        case Host(Exact(value) | Suffix(value) as match) if ":" not in value:
            before, behind = (".*", r"\.*(:.*)?") if wide else ("[^:]*", "(:[^:]*)?")
            beginning = before if isinstance(match, Suffix) else ""
            return Host(Regex(f"(?i){beginning}{re.escape(value)}{behind}"))
    return predicate


def _allow(policies: tuple[AuthorizationPolicy, ...], at: Destination) -> Allow:
    """Without any ALLOW policy nothing is enforced; with one that cannot match here, nobody is let in."""
    kinds = {policy.dry_run for policy in policies if policy.action is Action.ALLOW}
    enforced = _rules(policies, Action.ALLOW, at) if False in kinds else None
    return Allow(enforced, _rules(policies, Action.ALLOW, at, dry_run=True))


def _revoked(context: Context) -> Iterator[NamedRule]:
    """Their certificates are good until they end: it is policy that they meet, on standing connections too."""
    found = context.mesh.trust_domains.in_all_own(sorted(context.world.revoked))
    if found:
        yield NamedRule(REVOKED, any_of(*(Peer(Exact(identity)) for identity in found)))


def _broken(context: Context) -> Iterator[NamedRule]:
    for broken in context.aspect(_broken_policies):
        ref = broken.origin.ref
        yield NamedRule(f"ns[{ref.namespace}]-policy[{ref.name}]-broken", TRUE, broken.origin)


def _custom(
    context: Context, policies: tuple[AuthorizationPolicy, ...], at: Destination, *, after: bool
) -> tuple[tuple[CustomProvider, ...], tuple[NamedRule, ...]]:
    """The CUSTOM rules by provider, and those whose provider nobody knows: these deny, as in Istio."""
    by_name: dict[str, list[NamedRule]] = {}
    denied: list[NamedRule] = []
    for policy in policies:
        if policy.action is not Action.CUSTOM or policy.dry_run or policy.after_authentication is not after:
            continue
        provider = context.mesh.settings.provider(policy.provider or "")
        for rule in _bound(policy, at):
            if provider is None:
                denied.append(NamedRule(f"{rule.name}-deny-due-to-bad-CUSTOM-action", rule.predicate, rule.origin))
            else:
                by_name.setdefault(provider.name, []).append(rule)
    found = []
    for name, rules in by_name.items():
        provider = context.mesh.settings.provider(name)
        assert provider is not None
        if provider.rego is not None:
            cluster = decision_cluster(DecisionService.REGO)
        else:
            cluster = context.cluster_of(RouteDestination(provider.host, provider.port))
        found.append(CustomProvider(provider, cluster, tuple(rules)))
    return tuple(found), tuple(denied)
