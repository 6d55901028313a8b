"""The language of conditions: CEL with our variables and the functions that Envoy has.

Type checked by cel-cpp (``cel-expr-python``), the engine that Envoy evaluates with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from isthmus.cel.expression import Expr
from isthmus.envoy_api.packages import expr_v1alpha1, protobuf

_TEXTS = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
VARIABLES = {
    "claims": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    "scopes": cel.Type.List(cel.Type.STRING),
    "groups": cel.Type.List(cel.Type.STRING),
    "consumer": cel.Type.STRING,
    "plan": cel.Type.STRING,
    "params": _TEXTS,
    "query": _TEXTS,
    "headers": _TEXTS,
    "method": cel.Type.STRING,
    "path": cel.Type.STRING,
    "host": cel.Type.STRING,
    "source.principal": cel.Type.STRING,
    "source.trustDomain": cel.Type.STRING,
    "source.namespace": cel.Type.STRING,
    "source.serviceAccount": cel.Type.STRING,
    "now": cel.Type.TIMESTAMP,
}
"""What a condition can speak of, with its type."""

FUNCTIONS = frozenset(
    {
        *("_&&_", "_||_", "!_", "_?_:_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "_[_]"),
        *("_+_", "_-_", "_*_", "_/_", "_%_", "-_", "size", "type", "dyn"),
        *("int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration"),
        *("contains", "startsWith", "endsWith", "matches", "replace", "split", "lowerAscii", "upperAscii"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)
"""What Envoy 1.39 evaluates; ``split`` and the like because each policy switches them on (``cel_config``)."""

LONGEST = 4096
"""Characters of one condition."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a condition, at ``line`` and ``column`` of its text, both from 1."""

    message: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Checked:
    """A condition that parses and whose types fit."""

    text: str
    expr: Expr
    positions: dict[int, int]
    """Where each part of ``expr`` stands, by its id: characters from the beginning."""
    overloads: frozenset[str]
    """Which of each function's forms are called (``add_list``)."""

    def fault(self, expr: Expr, message: str) -> Fault:
        """A fault at a part of it."""
        before = self.text[: self.positions.get(expr.id, 0)]
        return Fault(message, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


@cache
def _environment() -> Any:
    return cel.NewEnv(variables=VARIABLES, extensions=[ext_strings.ExtStrings()])


_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_OUR_CONTAINER = " (in container '')"


def check(text: str) -> Checked | Fault:
    """Parse and check types. The first fault is told; those behind it often follow from it."""
    if len(text) > LONGEST:
        return Fault(f"a condition has at most {LONGEST} characters")
    if not text.strip():
        return Fault("the condition is empty")
    try:
        compiled = _environment().compile(text)
    except RuntimeError as wrong:
        told = _ERROR.search(str(wrong))
        if told is None:
            return Fault(str(wrong).splitlines()[0].removeprefix("INVALID_ARGUMENT: "))
        return Fault(told[3].replace(_OUR_CONTAINER, ""), int(told[1]), int(told[2]))
    if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        return Fault(f"a condition is true or false, and this is {compiled.return_type().name().lower()}")
    packed = protobuf.Any.FromString(compiled.serialize())
    checked = expr_v1alpha1.CheckedExpr.FromString(packed.value)
    overloads = (one for reference in checked.reference_map.values() for one in reference.overload_id)
    return Checked(text, checked.expr, dict(checked.source_info.positions), frozenset(overloads))
