"""Whether a condition says of which issuer the token must be."""

from __future__ import annotations

from isthmus.cel.expression import EQUAL, IN, Expr, conjuncts, constant_text, is_call, kind
from isthmus.cel.survey import access


def says_issuer(expr: Expr) -> bool:
    """``claims.iss == 'x'`` or ``claims.iss in ['x', 'y']``, and whatever else beside it."""
    return any(map(_says, conjuncts(expr)))


def _says(part: Expr) -> bool:
    if not is_call(part, EQUAL, IN):
        return False
    first, second = part.call_expr.args
    if is_call(part, IN):
        elements = second.list_expr.elements if kind(second) == "list_expr" else ()
        return _is_issuer(first) and bool(elements) and all(constant_text(one) is not None for one in elements)
    return any(
        _is_issuer(one) and constant_text(other) is not None for one, other in ((first, second), (second, first))
    )


def _is_issuer(expr: Expr) -> bool:
    found = access(expr)
    return found is not None and (found.variable, found.name, found.tested) == ("claims", "iss", False)
