"""What a checked condition asks for, and what of it Envoy could not answer: told before anything is sent to a proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from isthmus.cel.expression import IN, INDEX, Expr, children, constant_text, is_call, kind
from isthmus.cel.language import FUNCTIONS, Checked, Fault

MAPS = ("claims", "params", "query", "headers")
"""The variables of which one entry at a time is asked for, by a name that the text itself says."""

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_QUERY = re.compile(r"[A-Za-z0-9_.~-]+")
_MACROS = "exists, all, map and filter are not evaluated in the proxy; ask for one element with: 'x' in claims.roles"


@dataclass(frozen=True, slots=True)
class Access:
    """One entry of one of MAPS. ``tested``: only whether it is there (``has``, ``in``)."""

    variable: str
    name: str
    tested: bool
    expr: Expr = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Survey:
    accesses: tuple[Access, ...]
    variables: frozenset[str]
    """Of the others, those that are asked for."""
    faults: tuple[Fault, ...]

    def names(self, variable: str) -> frozenset[str]:
        """The entries of a map that are asked for."""
        return frozenset(one.name for one in self.accesses if one.variable == variable)

    @property
    def asks_token(self) -> bool:
        return "scopes" in self.variables or bool(self.names("claims"))


def survey(checked: Checked) -> Survey:
    """Look at every part. With faults the rest is of no use."""
    accesses: list[Access] = []
    variables: set[str] = set()
    faults: list[Fault] = []
    for expr in _parts(checked.expr):
        found = access(expr)
        if found is not None:
            accesses.append(found)
            problem = _name_problem(found)
        elif kind(expr) == "ident_expr":
            variables.add(expr.ident_expr.name)
            problem = _whole_problem(expr.ident_expr.name)
        else:
            problem = _problem(expr)
        if problem is not None:
            faults.append(checked.fault(expr, problem))
    if "add_list" in checked.overloads:
        faults.append(Fault("lists are not joined (+) in the proxy; ask each one"))
    return Survey(tuple(accesses), frozenset(variables), tuple(faults))


def access(expr: Expr) -> Access | None:
    """What ``variable.name``, ``variable["name"]``, ``has(variable.name)`` or ``"name" in variable`` asks for."""
    if kind(expr) == "select_expr":
        chosen = expr.select_expr
        variable = _map(chosen.operand)
        return None if variable is None else Access(variable, chosen.field, chosen.test_only, expr)
    if not is_call(expr, INDEX, IN):
        return None
    first, second = expr.call_expr.args
    tested = expr.call_expr.function == IN
    variable, name = (_map(second), constant_text(first)) if tested else (_map(first), constant_text(second))
    return None if variable is None or name is None else Access(variable, name, tested, expr)


def _map(expr: Expr) -> str | None:
    name = expr.ident_expr.name if kind(expr) == "ident_expr" else None
    return name if name in MAPS else None


def _parts(expr: Expr) -> Iterator[Expr]:
    """Each part, without the variable and the name of an access, and without ``groups`` where it may stand."""
    yield expr
    if access(expr) is not None:
        return
    for child in children(expr)[: 1 if _asks_groups(expr) else None]:
        yield from _parts(child)


def _asks_groups(expr: Expr) -> bool:
    """``x in groups``."""
    listed = expr.call_expr.args[1] if is_call(expr, IN) else expr
    return kind(listed) == "ident_expr" and listed.ident_expr.name == "groups" and listed is not expr


def _whole_problem(name: str) -> str | None:
    if name in MAPS:
        return f'{name} is asked for by the name of one entry, which stands in the text itself: {name}["x"]'
    if name == "groups":
        return "groups can only be asked whether one is among them: 'x' in groups"
    return None


def _name_problem(found: Access) -> str | None:
    name = found.name
    if found.variable == "params" and found.tested:
        return f"params.{name} is always there: what matches the path has it"
    if found.variable == "headers":
        if name.lower() in ("host", ":authority", ":method", ":path", ":scheme"):
            return f'"{name}" is no header here: ask for host, method or path'
        if not _HEADER.fullmatch(name.lower()):
            return f'"{name}" is not the name of a header'
    if found.variable == "query" and not _QUERY.fullmatch(name):
        return f'"{name}": the name of a query parameter is of letters, digits, and - . _ ~ here'
    return None


def _problem(expr: Expr) -> str | None:
    match kind(expr):
        case "comprehension_expr":
            return _MACROS
        case "struct_expr" if expr.struct_expr.message_name:
            return f"there are no messages ({expr.struct_expr.message_name}) in a condition"
        case "call_expr":
            return _call_problem(expr)
    return None


def _call_problem(expr: Expr) -> str | None:
    called = expr.call_expr
    if called.function not in FUNCTIONS:
        return f"the proxy has no function {called.function}"
    if called.function == "matches":
        pattern = constant_text(called.args[-1])
        if pattern is None:
            return "the pattern of matches() stands in the text itself: one of a request could be of any cost"
    return None


def patterns(expr: Expr) -> Iterator[tuple[Expr, str]]:
    """The regular expressions (RE2) in it."""
    for part in _parts(expr):
        if is_call(part, "matches"):
            written = constant_text(part.call_expr.args[-1])
            if written is not None:
                yield part.call_expr.args[-1], written
