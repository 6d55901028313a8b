"""A rule as what a request must pass, check by check."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from isthmus.cel.attribute import Binding, bind
from isthmus.cel.attribute import Token as TokenSort
from isthmus.cel.expression import Expr
from isthmus.cel.issuer import says_issuer
from isthmus.cel.need import Need, Needs, needs
from isthmus.cel.survey import Survey
from isthmus.diag import Origin
from isthmus.kinds.access_policy.query import guard
from isthmus.kinds.access_policy.spec import ConditionSpec, PathWritten, RuleSpec, Values
from isthmus.kinds.authorization_policy import value as values
from isthmus.kinds.authorization_policy.value import Context
from isthmus.model.access import CONSUMER, TOKEN, AccessRule, Check, Condition, Way
from isthmus.model.consumer import CLIENT
from isthmus.model.match import Exact, Present, Regex, wildcard
from isthmus.model.predicate import (
    TRUE,
    Claim,
    DestinationPort,
    FilterMetadata,
    Host,
    Method,
    Peer,
    Predicate,
    all_of,
    any_of,
)

ALWAYS_THERE = frozenset({"iss", "exp", "sub"})
"""Claims without which no token is verified, or that all tokens of users have (RFC 9068, section 2.2)."""


def compiled(rule: RuleSpec, name: str, context: Context, origin: Origin) -> AccessRule:
    """``name``: as logs have it."""
    made = AccessRule(name, checks(rule, context), ways(rule, context), origin)
    if _says_issuer(rule):
        return made
    closed = AccessRule(
        name, checks(rule, context, token_groups=False), ways(rule, context, token_groups=False), origin
    )
    asks = bool(rule.scopes) or (rule.when is not None and rule.when.survey.asks_token)
    return replace(made, whoever_says=asks or closed != made, among_issuers=closed if closed != made else None)


def _says_issuer(rule: RuleSpec) -> bool:
    return bool(rule.issuers) or (rule.when is not None and says_issuer(rule.when.checked.expr))


def checks(rule: RuleSpec, context: Context, *, token_groups: bool = True) -> tuple[tuple[Check, Predicate], ...]:
    """Those that ask for something, in order; OPERATION and CONDITION stand in :func:`ways`."""
    needed = needs(rule.when.checked.expr) if rule.when is not None else frozenset()
    found = {
        Check.AUTHENTICATED: _somebody() if _asks_somebody(rule, needed) else TRUE,
        Check.PEER: _peer(rule, context, needed),
        Check.CLIENT: _client(rule, context, needed),
        Check.SCOPES: all_of(*(Claim(("scope",), Exact(one.text)) for one in rule.scopes)),
        Check.GROUPS: _any(rule.groups, _group if token_groups else _consumers_group),
    }
    return tuple((check, found[check]) for check in Check if check in found and found[check] != TRUE)


def _any(written: Values, predicate: Callable[[str], Predicate]) -> Predicate:
    return any_of(*(predicate(one.text) for one in written)) if written else TRUE


def _asks_somebody(rule: RuleSpec, needed: Needs) -> bool:
    """Whether nobody passes the other checks without a credential: which, they say, and this is the better reason."""
    written = (rule.scopes, rule.issuers, rule.consumers, rule.plans, rule.groups)
    return Need.SOMEBODY in needed or any(written)


def _somebody() -> Predicate:
    return any_of(TOKEN, FilterMetadata(CLIENT, ("method",), Present()))


def _peer(rule: RuleSpec, context: Context, needed: Needs) -> Predicate:
    named = all_of(
        _any(rule.principals, lambda one: values.principal(one, context)),
        _any(rule.service_accounts, lambda one: values.service_account(one, context)),
        _any(rule.namespaces, lambda one: values.source_namespace(one, context)),
    )
    return Peer(Present()) if named == TRUE and Need.PEER in needed else named


def _client(rule: RuleSpec, context: Context, needed: Needs) -> Predicate:
    """The sort of credential first: a token is none of a consumer's."""
    token = rule.scopes or rule.issuers or Need.TOKEN in needed
    consumer = rule.consumers or rule.plans or Need.CONSUMER in needed
    return all_of(
        TOKEN if token else TRUE,
        CONSUMER if consumer else TRUE,
        _any(rule.consumers, lambda one: _consumer(one, context)),
        _any(rule.plans, lambda one: FilterMetadata(CLIENT, ("plan",), Exact(one))),
        _any(rule.issuers, lambda one: Claim(("iss",), Exact(one))),
    )


def _consumer(written: str, context: Context) -> Predicate:
    namespace, slash, name = written.rpartition("/")
    return all_of(
        FilterMetadata(CLIENT, ("consumer_namespace",), Exact(namespace if slash else context.namespace)),
        FilterMetadata(CLIENT, ("consumer",), Exact(name)),
    )


def _group(name: str) -> Predicate:
    return any_of(Claim(("groups",), Exact(name)), _consumers_group(name))


def _consumers_group(name: str) -> Predicate:
    return FilterMetadata(CLIENT, ("groups",), Exact(name), listed=True)


def ways(rule: RuleSpec, context: Context, *, token_groups: bool = True) -> tuple[Way, ...]:
    """One for all paths in which what the condition asks for is the same segments."""
    where = all_of(_ports(rule.ports), _any(rule.hosts, _host), _any(rule.methods, lambda one: Method(wildcard(one))))
    condition = rule.when
    if condition is None:
        return (Way(all_of(where, _paths(rule.paths)), TRUE),)
    asked = condition.survey.names("params")
    guarded = guard(condition.survey.names("query"))
    found = []
    for segments, paths in _alike(rule.paths, asked):
        binding = Binding(context.trust_domains, segments, token_groups=token_groups)
        found.append(Way(all_of(where, _paths(paths)), guarded, _condition(condition, binding)))
    return tuple(found)


def _ports(numbers: tuple[int, ...]) -> Predicate:
    return any_of(*map(DestinationPort, numbers)) if numbers else TRUE


def _host(written: str) -> Predicate:
    """Whichever port the authority has beside it: ``ports`` are those that are listened at."""
    beginning = "[^:]+" if written.startswith("*") else ""
    return Host(Regex(f"(?i){beginning}{re.escape(written.removeprefix('*'))}(:[0-9]*)?"))


def _paths(paths: Iterable[PathWritten]) -> Predicate:
    each = tuple(one.path.predicate for one in paths)
    return any_of(*each) if each else TRUE


def _alike(
    paths: tuple[PathWritten, ...], asked: frozenset[str]
) -> Iterator[tuple[Mapping[str, int], tuple[PathWritten, ...]]]:
    if not paths:
        yield {}, ()
    groups: dict[tuple[tuple[str, int], ...], list[PathWritten]] = {}
    for one in paths:
        segments = tuple((name, place) for name, place in sorted(one.path.segments.items()) if name in asked)
        groups.setdefault(segments, []).append(one)
    for segments, alike in groups.items():
        yield dict(segments), tuple(alike)


def _condition(condition: ConditionSpec, binding: Binding) -> Condition:
    expr, survey = condition.checked.expr, condition.survey
    introspected = None
    if survey.asks_token or "groups" in condition.checked.text:
        introspected = _serialised(bind(expr, replace(binding, token=TokenSort.INTROSPECTED)))
    return Condition(condition.checked.text, _serialised(bind(expr, binding)), introspected, absent(survey))


def absent(survey: Survey) -> tuple[str, ...]:
    """Claims that are compared, that a token may be without, and that nobody asks whether they are there."""
    compared = {one.name for one in survey.accesses if one.variable == "claims" and not one.tested}
    tested = {one.name for one in survey.accesses if one.variable == "claims" and one.tested}
    return tuple(sorted(compared - tested - ALWAYS_THERE))


def _serialised(expr: Expr) -> bytes:
    found: bytes = expr.SerializeToString(deterministic=True)
    return found
