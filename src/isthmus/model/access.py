"""AccessPolicies: who may do what, where one rule speaks of the token, the consumer and the workload at once.

A request gets in if one rule of the policies that hold lets it in; every check of a rule must. The checks stand in the
order in which a refusal is explained: the first that no rule passes is the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.attachment import Attachment
from isthmus.model.consumer import CLIENT
from isthmus.model.match import Exact, Present
from isthmus.model.predicate import (
    FALSE,
    TRUE,
    Claim,
    Destination,
    DestinationPort,
    FilterMetadata,
    Leaf,
    Predicate,
    all_of,
    any_of,
    bind,
    leaves,
    negate,
    transform,
)

NOTED_KEY = "isthmus_access_shadow_effective_policy_id"
"""Key of the first check that no rule passed (:attr:`Check.key`), in the metadata of Envoy's RBAC filters."""
ACCESS_ON_TCP = "isthmus-access-policy-on-TCP"
"""The rule that closes plain TCP ports where an AccessPolicy holds, as access logs name it."""


class Check(Enum):
    """What a rule asks, in order; the value is the code of the refusal."""

    OPERATION = "no-rule"
    AUTHENTICATED = "not-authenticated"
    PEER = "peer-not-allowed"
    CLIENT = "client-not-allowed"
    SCOPES = "scope-missing"
    GROUPS = "group-missing"
    CONDITION = "condition-not-met"

    @property
    def key(self) -> str:
        """Its name in the proxy: names are asked there in alphabetical order, as :func:`explain` has them."""
        return f"{(list(Check).index(self) + 1) % len(Check)}:{self.value}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in CEL. ``expression``: the ``google.api.expr.v1alpha1.Expr`` over Envoy's attributes, serialised.

    ``introspected``: the same where the claims are those of a token that its issuer was asked about; None: it asks for
    no claim. ``absent``: claims that it compares and that a token may be without.
    """

    text: str
    expression: bytes
    introspected: bytes | None = None
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """One form of a rule: paths in which its parameters are the same segments, and the condition over these.

    ``guard``: what the condition needs so that nobody reads the request otherwise: a query without repetitions, say.
    """

    operation: Predicate
    guard: Predicate
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class AccessRule:
    """``checks``: those with something to ask, OPERATION and CONDITION aside, in order.

    ``whoever_says``: it asks what a token says, and not whose token it is. ``among_issuers``: the rule where tokens of
    several issuers are taken, if it is another there: the claim ``groups`` is of nobody whom the rule means.
    """

    name: str
    """As logs have it."""
    checks: tuple[tuple[Check, Predicate], ...]
    ways: tuple[Way, ...]
    origin: Origin
    whoever_says: bool = False
    among_issuers: AccessRule | None = None

    @property
    def operation(self) -> Predicate:
        return any_of(*(way.operation for way in self.ways))

    def at(self, destination: Destination, *, issuers: int) -> AccessRule | None:
        """The rule at one port, where tokens of so many ``issuers`` are taken; None: it is of other ports."""
        rule = self.among_issuers if issuers > 1 and self.among_issuers is not None else self
        if not any(isinstance(leaf, DestinationPort) for leaf in leaves(rule.operation)):
            return rule
        ways = (replace(way, operation=bind(way.operation, destination)) for way in rule.ways)
        left = tuple(way for way in ways if way.operation != FALSE)
        return replace(rule, ways=left) if left else None

    def up_to(self, last: Check) -> Predicate:
        """All that is asked up to ``last``."""
        order = list(Check)
        asked = (wanted for check, wanted in self.checks if order.index(check) <= order.index(last))
        return all_of(self.operation, *asked)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Without rules nobody gets in."""

    name: str
    namespace: str
    attachment: Attachment
    rules: tuple[AccessRule, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way of one rule, for one sort of token. ``expression`` None: there is no condition."""

    name: str
    predicate: Predicate
    expression: bytes | None


def alternatives(rule: AccessRule, *, introspection: bool) -> Iterator[Alternative]:
    """What a rule comes to: any one of these. ``introspection``: tokens are known from their issuers' answers, too.

    No alternative mixes the claims of two tokens.
    """
    named = [f"{rule.name}-way[{index}]" for index in range(len(rule.ways))] if len(rule.ways) > 1 else [rule.name]
    for name, way in zip(named, rule.ways, strict=True):
        condition = way.condition
        asked = all_of(way.operation, *(wanted for _, wanted in rule.checks), way.guard)
        yield Alternative(name, asked, condition.expression if condition is not None else None)
        other = of_introspected(asked)
        if introspection and (other != asked or (condition is not None and condition.introspected is not None)):
            expression = None if condition is None else condition.introspected or condition.expression
            yield Alternative(f"{name}-introspected", other, expression)


TOKEN = Claim(("iss",), Present())
"""That there is a verified token: none is without its issuer."""
CONSUMER = FilterMetadata(CLIENT, ("consumer",), Present())


def of_introspected(predicate: Predicate) -> Predicate:
    """What is asked of a token's claims, asked of those that its issuer answered with."""
    return transform(predicate, _introspected)


def _introspected(leaf: Leaf) -> Predicate:
    if leaf == TOKEN:
        # An answer may leave out who gave it; that there is one, the consumer's key "method" says.
        return FilterMetadata(CLIENT, ("method",), Exact("introspection"))
    if not isinstance(leaf, Claim):
        return leaf
    path = ("claims", *leaf.path)
    return any_of(*(FilterMetadata(CLIENT, path, leaf.match, listed) for listed in (True, False)))


def explain(rules: Sequence[AccessRule], *, introspection: bool) -> tuple[tuple[Check, Predicate], ...]:
    """By check, in the order to be asked: the first that is true is the reason of a refusal, and one is.

    CONDITION comes first, true if a rule passes all checks: so what is let in is asked once, and as a rule only up to
    the rule that lets it in. The others are true if no rule passes all checks up to them.
    """
    asked: list[tuple[Check, Predicate]] = []
    last: Predicate | None = None
    for check in Check:
        passed = TRUE if check is Check.CONDITION else _some_pass(rules, check, introspection)
        if passed not in (last, TRUE):
            asked.append((check, passed))
            last = passed
    if last is None:
        return ((Check.CONDITION, TRUE),)
    missed = ((check, negate(passed)) for check, passed in asked[:-1])
    condition = () if last == FALSE else ((Check.CONDITION, last),)
    return (*condition, *missed, (asked[-1][0], TRUE))


def _some_pass(rules: Sequence[AccessRule], check: Check, introspection: bool) -> Predicate:
    return any_of(*dict.fromkeys(_passed(rule, check, introspection) for rule in rules))


def _passed(rule: AccessRule, check: Check, introspection: bool) -> Predicate:
    asked = rule.up_to(check)
    return any_of(asked, of_introspected(asked)) if introspection and of_introspected(asked) != asked else asked
