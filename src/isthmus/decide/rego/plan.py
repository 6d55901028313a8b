"""What is wrong with a compiled policy that the engine runs all the same: found in its plan before it may decide.

rego-cpp takes a call of a function that it lacks, and a variable that nothing binds, for undefined; under a ``not``
that is true. OPA compiles neither. The plan (OPA's intermediate representation) names every call and every local
variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

FORBIDDEN = {"opa.runtime": "it tells the policy of the process that runs it"}
"""Functions that the engine has and no policy may call."""
_PRINT = "internal.print"
_READ = ("source", "a", "b", "object", "array", "set", "value", "key")
_WRITTEN = ("target", "result")


def problems(plan: Mapping[str, Any], known: Callable[[str], bool]) -> tuple[str, ...]:
    """Each as ``file:line: what is wrong``. ``known``: whether the engine has a builtin of that name."""
    files = [one["value"] for one in plan["static"]["files"]]
    found: list[str] = []
    for function in plan["funcs"]["funcs"]:
        defined = {each["name"] for each in plan["funcs"]["funcs"]}
        for statement in statements(function["blocks"]):
            problem = _call_problem(statement, defined, known)
            if problem is not None:
                found.append(f"{_place(statement['stmt'], files)}{problem}")
        found += (f"{_place(at, files)}{_UNBOUND}" for at in _unbound(function))
    return tuple(dict.fromkeys(found))


_UNBOUND = "a variable that nothing binds is used (OPA: rego_unsafe_var_error)"


def is_rule(plan: Mapping[str, Any], path: str) -> bool:
    """Whether a rule, or a package with rules, stands at ``path``: else only data could."""
    plans = (one for one in plan["plans"]["plans"] if one["name"] == path)
    return any(one["type"] == "CallStmt" for found in plans for one in statements(found["blocks"]))


def statements(blocks: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Of ``blocks`` and of what is within them, in order."""
    for block in blocks:
        for statement in block["stmts"]:
            yield statement
            yield from statements(_inner(statement["stmt"]))


def _inner(statement: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    block = statement.get("block")
    return (*((block,) if isinstance(block, dict) else ()), *statement.get("blocks", ()))


def _call_problem(statement: Mapping[str, Any], defined: set[str], known: Callable[[str], bool]) -> str | None:
    if statement["type"] == "CallDynamicStmt":
        return "a function is called by a name that is computed: nobody can tell beforehand whether it exists"
    if statement["type"] != "CallStmt":
        return None
    name = statement["stmt"]["func"]
    if name in defined or name == _PRINT:
        return None
    if name in FORBIDDEN:
        return f"{name} may not be called: {FORBIDDEN[name]}"
    return None if known(name) else f"the engine has no function {name}"


def _place(statement: Mapping[str, Any], files: Sequence[str]) -> str:
    """Rows count from 0."""
    return f"{files[statement['file']]}:{statement['row'] + 1}: " if "file" in statement else ""


def _unbound(function: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The statements that read a local variable which no statement before them wrote."""
    written = set(function["params"])
    at: Mapping[str, Any] = {}
    for one in statements(function["blocks"]):
        statement = one["stmt"]
        at = statement if "file" in statement else at
        if any(local not in written for local in _read(one["type"], statement)):
            yield at
        written.update(_written(one["type"], statement))


def _read(type_: str, statement: Mapping[str, Any]) -> Iterator[int]:
    if type_ == "ScanStmt":
        yield statement["source"]
        return
    for operand in (*(statement.get(name) for name in _READ), *statement.get("args", ())):
        if isinstance(operand, dict):
            if operand["type"] == "local":
                yield operand["value"]
        elif isinstance(operand, int) and type_ not in NUMBERS:
            yield operand


NUMBERS = frozenset({"AssignIntStmt", "MakeNumberIntStmt"})
"""Statements whose ``value`` is a number, not a local variable."""


def _written(type_: str, statement: Mapping[str, Any]) -> Iterator[int]:
    if type_ == "ScanStmt":
        yield statement["key"]
        yield statement["value"]
    for name in _WRITTEN:
        if isinstance(statement.get(name), int):
            yield statement[name]
