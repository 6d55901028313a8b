"""Comparisons of a variable with a text that it never is: they are never true (``!=``: never false)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.cel.expression import EQUAL, IN, UNEQUAL, Expr, children, constant_text, is_call, kind


@dataclass(frozen=True, slots=True)
class Unlike:
    """``at``: the text in the condition."""

    variable: str
    text: str
    form: str
    at: Expr


_FORMS = {
    "consumer": (r"[^/]+/[^/]+", "namespace/name"),
    "method": (r"[^a-z]+", "in capitals"),
    "path": (r"/[^?#]*|\*", "written from its first slash on, without the query"),
    "host": (r"[^A-Z:]+", "in lower case, without a port"),
    "source.principal": (r"(?!spiffe:)[^/]+/.+", "cluster.local/ns/NAMESPACE/sa/ACCOUNT, without spiffe://"),
    "source.trustDomain": (r"[^/]+", "without a slash"),
    "source.namespace": (r"[^/]+", "without a slash"),
    "source.serviceAccount": (r"[^/]+", "a name alone; source.namespace is beside it"),
}
"""What each variable looks like, and in words."""


def unlike(expr: Expr) -> Iterator[Unlike]:
    """Those in any part of it."""
    for variable, constant in _compared(expr):
        written = constant_text(constant)
        pattern, form = _FORMS.get(variable, (".*", ""))
        if written is not None and re.fullmatch(pattern, written, re.DOTALL) is None:
            yield Unlike(variable, written, form, constant)
    for child in children(expr):
        yield from unlike(child)


def _compared(expr: Expr) -> Iterator[tuple[str, Expr]]:
    if is_call(expr, EQUAL, UNEQUAL):
        first, second = expr.call_expr.args
        for one, other in ((first, second), (second, first)):
            if kind(one) == "ident_expr":
                yield one.ident_expr.name, other
    elif is_call(expr, IN):
        value, listed = expr.call_expr.args
        if kind(value) == "ident_expr" and kind(listed) == "list_expr":
            yield from ((value.ident_expr.name, one) for one in listed.list_expr.elements)
