"""A rule as a predicate: one source, one operation, every condition."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.kinds.authorization_policy.spec import Clause, Clauses, RuleSpec, Value
from isthmus.kinds.authorization_policy.value import Context
from isthmus.model.predicate import TRUE, Predicate, all_of, any_of, negate


def rule_predicate(rule: RuleSpec, context: Context) -> Predicate:
    """An empty rule is true of every request."""
    return all_of(
        _one_of(rule.sources, context),
        _one_of(rule.operations, context),
        *(_clause(clause, context) for clause in rule.conditions),
    )


def _one_of(alternatives: Sequence[Clauses], context: Context) -> Predicate:
    if not alternatives:
        return TRUE
    return any_of(*(all_of(*(_clause(clause, context) for clause in each.clauses)) for each in alternatives))


def _clause(clause: Clause, context: Context) -> Predicate:
    """A plaintext peer has no identity: ``values`` that ask for one are false of it, ``not_values`` true."""

    def any_value(values: Sequence[Value]) -> Predicate:
        return any_of(*(clause.attribute.predicate(value.text, context) for value in values))

    wanted = any_value(clause.values) if clause.values else TRUE
    return all_of(wanted, negate(any_value(clause.not_values)))
