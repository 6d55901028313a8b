"""CEL's syntax tree (``google.api.expr.v1alpha1.Expr``, the one that Envoy takes): its parts, and how they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.envoy_api.packages import expr_v1alpha1

Expr = Any
"""An ``Expr`` message."""

AND, OR, NOT, CHOICE, INDEX, EQUAL, UNEQUAL, PLUS = "_&&_", "_||_", "!_", "_?_:_", "_[_]", "_==_", "_!=_", "_+_"
IN = "@in"


def ident(name: str) -> Expr:
    return expr_v1alpha1.Expr(ident_expr=expr_v1alpha1.Expr.Ident(name=name))


def text(value: str) -> Expr:
    return expr_v1alpha1.Expr(const_expr=expr_v1alpha1.Constant(string_value=value))


def number(value: int) -> Expr:
    return expr_v1alpha1.Expr(const_expr=expr_v1alpha1.Constant(int64_value=value))


def select(operand: Expr, field: str, *, test: bool = False) -> Expr:
    """``operand.field``; with ``test``, ``has(operand.field)``."""
    chosen = expr_v1alpha1.Expr.Select(operand=operand, field=field, test_only=test)
    return expr_v1alpha1.Expr(select_expr=chosen)


def call(function: str, *arguments: Expr, target: Expr | None = None) -> Expr:
    """``function(arguments)``, or ``target.function(arguments)``."""
    called = expr_v1alpha1.Expr.Call(function=function, args=arguments, target=target)
    return expr_v1alpha1.Expr(call_expr=called)


def index(operand: Expr, key: Expr) -> Expr:
    return call(INDEX, operand, key)


def nothing() -> Expr:
    """An error whenever it is evaluated: the first element of an empty list."""
    return index(expr_v1alpha1.Expr(list_expr=expr_v1alpha1.Expr.CreateList()), number(0))


def kind(expr: Expr) -> str:
    """Which of the alternatives it is: ``call_expr``, ``select_expr`` …"""
    found: str = expr.WhichOneof("expr_kind")
    return found


def is_call(expr: Expr, *functions: str) -> bool:
    return kind(expr) == "call_expr" and expr.call_expr.function in functions


def constant_text(expr: Expr) -> str | None:
    """The value of a string constant; None: it is something else."""
    if kind(expr) != "const_expr" or expr.const_expr.WhichOneof("constant_kind") != "string_value":
        return None
    found: str = expr.const_expr.string_value
    return found


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly below, in order of writing."""
    match kind(expr):
        case "select_expr":
            return (expr.select_expr.operand,)
        case "call_expr":
            called = expr.call_expr
            return (*((called.target,) if called.HasField("target") else ()), *called.args)
        case "list_expr":
            return tuple(expr.list_expr.elements)
        case "struct_expr":
            entries = expr.struct_expr.entries
            return tuple(part for entry in entries for part in (entry.map_key, entry.value))
    return ()


def conjuncts(expr: Expr) -> Iterator[Expr]:
    """The parts of ``a && b && c``."""
    if is_call(expr, AND):
        for part in expr.call_expr.args:
            yield from conjuncts(part)
    else:
        yield expr


def numbered(expr: Expr) -> Expr:
    """Every part with an id of its own, counted from 1, as parsers give them."""
    todo, last = [expr], 0
    while todo:
        part = todo.pop()
        last += 1
        part.id = last
        todo.extend(children(part))
    return expr
