"""Conditions that no request can meet, as far as it is easily told."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.cel.expression import EQUAL, IN, UNEQUAL, Expr, children, conjuncts, is_call, kind

_Values = tuple[bytes, bool, frozenset[bytes]]
"""A value that is asked for, whether it must be (or must not be) one of these, and these."""


def contradiction(expr: Expr) -> str | None:
    """Why it can never be true; None: as far as this can tell, it can."""
    allowed: dict[bytes, frozenset[bytes]] = {}
    forbidden: dict[bytes, frozenset[bytes]] = {}
    for part in conjuncts(expr):
        if kind(part) == "const_expr" and not part.const_expr.bool_value:
            return "false is never true"
        for value, positive, values in _demands(part):
            if positive:
                allowed[value] = allowed[value] & values if value in allowed else values
            else:
                forbidden[value] = forbidden.get(value, frozenset()) | values
    if any(not values - forbidden.get(value, frozenset()) for value, values in allowed.items()):
        return "it asks one value to be two different things at once"
    return None


def _demands(part: Expr) -> Iterator[_Values]:
    """``x == 'a'``, ``'a' == x``, ``x != 'a'``, ``x in ['a', 'b']``."""
    if is_call(part, EQUAL, UNEQUAL):
        first, second = part.call_expr.args
        value, constant = (second, first) if kind(first) == "const_expr" else (first, second)
        if _is_exact(constant) and kind(value) != "const_expr":
            yield _written(value), is_call(part, EQUAL), frozenset({_written(constant)})
    elif is_call(part, IN):
        value, listed = part.call_expr.args
        elements = listed.list_expr.elements if kind(listed) == "list_expr" else ()
        if elements and all(map(_is_exact, elements)):
            yield _written(value), True, frozenset(map(_written, elements))


def _is_exact(expr: Expr) -> bool:
    """A constant that nothing written otherwise is equal to: 1 and 1.0 are."""
    if kind(expr) != "const_expr":
        return False
    return expr.const_expr.WhichOneof("constant_kind") in ("string_value", "bool_value", "int64_value")


def _written(expr: Expr) -> bytes:
    """The same for the same expression, wherever it stands."""
    bare = type(expr)()
    bare.CopyFrom(expr)
    _without_ids(bare)
    written: bytes = bare.SerializeToString(deterministic=True)
    return written


def _without_ids(expr: Expr) -> None:
    expr.id = 0
    for child in children(expr):
        _without_ids(child)
