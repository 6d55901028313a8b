"""What a request must have so that a condition can be true of it at all: told without looking at one."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from isthmus.cel.expression import AND, CHOICE, NOT, OR, Expr, children, is_call, kind
from isthmus.cel.survey import access


class Need(Enum):
    TOKEN = "a verified token"  # noqa: S105 (a name)
    CONSUMER = "a credential of a consumer"
    SOMEBODY = "a verified token, or a credential of a consumer"
    PEER = "a peer with an identity"


Needs = frozenset[Need]
_NONE: Needs = frozenset()
_TOKEN: Needs = frozenset({Need.TOKEN, Need.SOMEBODY})
_CONSUMER: Needs = frozenset({Need.CONSUMER, Need.SOMEBODY})
_VARIABLES: Mapping[str, Needs] = {
    "scopes": _TOKEN,
    "groups": frozenset({Need.SOMEBODY}),
    "consumer": _CONSUMER,
    "plan": _CONSUMER,
}


def needs(expr: Expr) -> Needs:
    """What it cannot be true without. Not all of it: only what follows from how it is built."""
    return _for(expr, True)


def _for(expr: Expr, wanted: bool) -> Needs:
    """Of an operand of logic, for the value ``wanted``: an error on one side is passed over if the other decides."""
    if is_call(expr, NOT):
        return _for(expr.call_expr.args[0], not wanted)
    if is_call(expr, AND, OR):
        left, right = (_for(part, wanted) for part in expr.call_expr.args)
        both = is_call(expr, AND) is wanted
        return left | right if both else left & right
    if is_call(expr, CHOICE):
        condition, yes, no = expr.call_expr.args
        return _any_value(condition) | (_for(yes, wanted) & _for(no, wanted))
    return _any_value(expr)


def _any_value(expr: Expr) -> Needs:
    """For any value that is not an error."""
    if is_call(expr, AND, OR, NOT, CHOICE):
        return _for(expr, True) & _for(expr, False)
    found = access(expr)
    if found is not None:
        return _TOKEN if found.variable == "claims" else _NONE
    if kind(expr) == "ident_expr":
        return _of_variable(expr.ident_expr.name)
    return frozenset(need for child in children(expr) for need in _any_value(child))


def _of_variable(name: str) -> Needs:
    if name.startswith("source."):
        return frozenset({Need.PEER})
    return _VARIABLES.get(name, _NONE)
