"""Which parts of the input a compiled policy can read: the engine takes longer to be given an input than to decide.

Read off the plan (OPA's intermediate representation), which goes down an object one key at a time. Whatever is done
with a value other than going further down by a key that stands in the policy reads all of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.decide.rego.plan import NUMBERS, statements

Need = dict[str, "Need | None"]
"""What is read, by key; None: everything below; empty: whether it is there."""

_INPUT = 0
"""The local variable that is the input, in the plan of every rule and every function."""
_PLAIN_KEY = re.compile(r"[\w.:/ -]+", re.ASCII)
"""Keys that no escaping touches: others may stand in the plan in another form than in the document."""
_NO_READS = frozenset({"file", "col", "row", "index", "target", "result", "func", "block", "blocks", "path"})
"""Fields of statements that are not values which are read; of all others a number is taken for a variable."""


def reads(plan: Mapping[str, Any]) -> Need | None:
    """What the rules and functions of ``plan`` read of the input; None: they may read all of it."""
    strings = [one["value"] for one in plan["static"]["strings"]]
    functions = {one["name"] for one in plan["funcs"]["funcs"] if one["params"][:1] == [_INPUT]}
    paths: dict[int, set[tuple[str, ...]]] = {_INPUT: {()}}
    every = tuple(one for part in _parts(plan) for one in statements(part["blocks"]))
    # A variable may be written behind where it is read, as far as the text goes.
    while _follow(every, strings, paths):
        pass
    need: Need | None = {}
    # That a step down succeeds says something, whatever becomes of it.
    for path in (path for found in paths.values() for path in found):
        need = _with(need, path, {})
    for one in every:
        for local in _used(one, functions, strings):
            for path in paths.get(local, ()):
                need = _with(need, path, None)
    return need


def needed(document: Any, need: Need | None) -> Any:
    """The parts of ``document`` (JSON values) that ``need`` names; where it names a key of what is no object, all."""
    if need is None or not isinstance(document, dict):
        return document
    return {key: needed(document[key], below) for key, below in need.items() if key in document}


def _parts(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from plan["plans"]["plans"]
    yield from plan["funcs"]["funcs"]


def _follow(every: tuple[Mapping[str, Any], ...], strings: list[str], paths: dict[int, set[tuple[str, ...]]]) -> bool:
    """Add to ``paths``, by variable, the parts of the input that it may be; whether there were new ones."""
    before = sum(map(len, paths.values()))
    for one in every:
        key = _key(one, strings)
        source = one["stmt"].get("source")
        if key is not None and source["type"] == "local" and source["value"] in paths:
            further = {(*path, key) for path in paths[source["value"]]}
            paths.setdefault(one["stmt"]["target"], set()).update(further)
    return sum(map(len, paths.values())) > before


def _key(statement: Mapping[str, Any], strings: list[str]) -> str | None:
    """Of a step down by a key that stands in the policy; None: it is something else."""
    if statement["type"] != "DotStmt" or statement["stmt"]["key"]["type"] != "string_index":
        return None
    key = strings[statement["stmt"]["key"]["value"]]
    return key if _PLAIN_KEY.fullmatch(key) else None


def _used(statement: Mapping[str, Any], functions: set[str], strings: list[str]) -> Iterator[int]:
    """The variables that are read, but for steps further down, and for the input that every function is handed."""
    if _key(statement, strings) is not None or statement["type"] in NUMBERS:
        return
    inner = statement["stmt"]
    arguments = inner.get("args", ())
    if inner.get("func") in functions and arguments and arguments[0] == {"type": "local", "value": _INPUT}:
        arguments = arguments[1:]
    values = [value for name, value in inner.items() if name not in _NO_READS and name != "args"]
    # Of a rule that is chosen by values; elsewhere a path is made of the policy's own strings.
    chosen = (step for step in inner.get("path", ()) if isinstance(step, dict))
    for value in (*values, *arguments, *chosen):
        if isinstance(value, dict):
            if value.get("type") == "local":
                yield value["value"]
        elif isinstance(value, int) and not isinstance(value, bool):
            yield value


def _with(need: Need | None, path: tuple[str, ...], leaf: Need | None) -> Need | None:
    """``need``, and ``leaf`` at ``path``."""
    if need is None:
        return None
    if not path:
        return None if leaf is None else need | leaf
    return need | {path[0]: _with(need.get(path[0], {}), path[1:], leaf)}
