"""Giving the engine an input: in the form that it compares right, and nothing that it would read wrong."""

from __future__ import annotations

import ctypes
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from isthmus.decide.rego.library import regopy
from isthmus.decide.rego.literal import escaped
from isthmus.errors import Undecided

MOST_NESTED = 100
"""Deeper values are not given to the engine, whose parser is recursive."""
_LONGEST_INT = 1 << 63
_FEW_DIGITS = re.compile(r"-?\d{1,9}(\.\d{1,6})?")
"""Numbers that the fast way of giving an input keeps as they are."""


def give(interpreter: Any, document: Any) -> None:
    """``document``: JSON values. As values where the engine keeps them as they are, else as JSON, which is slower.

    Raises Undecided: it is nested too deep.
    """
    if not _plain(document, 0):
        interpreter.set_input_term(json.dumps(_unescaped(document), ensure_ascii=False, allow_nan=False))
        return
    api = _api()
    given = ctypes.c_void_p(api.new())
    try:
        _add(api, given, document)
        regopy().rego_shared.rego_set_input(interpreter._impl, given)
    finally:
        api.free(given)


@dataclass(frozen=True, slots=True)
class _Api:
    """rego-cpp's functions that put values on a stack, and make objects and arrays of those on top of it."""

    new: Any
    free: Any
    text: Any
    integer: Any
    fraction: Any
    boolean: Any
    null: Any
    item: Any
    object: Any
    array: Any


@cache
def _api() -> _Api:
    """The interpreter's lock is kept: each call is shorter than what others make of its being free for a moment."""
    library = ctypes.PyDLL(regopy().rego_shared.rego._name)

    def function(name: str, *arguments: Any, returns: Any = ctypes.c_uint32) -> Any:
        found = library[name]
        found.restype, found.argtypes = returns, list(arguments)
        return found

    stack = ctypes.c_void_p
    return _Api(
        new=function("regoNewInput", returns=stack),
        free=function("regoFreeInput", stack, returns=None),
        text=function("regoInputString", stack, ctypes.c_char_p),
        integer=function("regoInputInt", stack, ctypes.c_int64),
        fraction=function("regoInputFloat", stack, ctypes.c_double),
        boolean=function("regoInputBoolean", stack, ctypes.c_bool),
        null=function("regoInputNull", stack),
        item=function("regoInputObjectItem", stack),
        object=function("regoInputObject", stack, ctypes.c_uint32),
        array=function("regoInputArray", stack, ctypes.c_uint32),
    )


def _add(api: _Api, given: Any, value: Any) -> None:
    match value:
        case str():
            _put(api.text(given, escaped(value).encode()))
        case dict():
            for key, each in value.items():
                _put(api.text(given, escaped(key).encode()))
                _add(api, given, each)
                _put(api.item(given))
            _put(api.object(given, len(value)))
        case list() | tuple():
            for each in value:
                _add(api, given, each)
            _put(api.array(given, len(value)))
        case bool():
            _put(api.boolean(given, value))
        case int():
            _put(api.integer(given, value))
        case float():
            _put(api.fraction(given, value))
        case _:
            _put(api.null(given))


def _put(code: int) -> None:
    if code:
        raise Undecided(f"the engine does not take the input (code {code})")


def _plain(value: Any, depth: int) -> bool:
    """Whether every number is one that the fast way keeps. Raises Undecided for what is nested too deep."""
    if depth > MOST_NESTED:
        raise Undecided(f"the input is nested deeper than {MOST_NESTED}")
    if isinstance(value, dict | list | tuple):
        # All of them, whatever the first is: the depth of each counts.
        below = [_plain(each, depth + 1) for each in (value.values() if isinstance(value, dict) else value)]
        return all(below)
    if isinstance(value, float):
        return _FEW_DIGITS.fullmatch(repr(value)) is not None
    return not isinstance(value, int) or -_LONGEST_INT <= value < _LONGEST_INT


def _unescaped(value: Any) -> Any:
    """With what :func:`escaped` makes of halves of surrogate pairs."""
    if isinstance(value, str):
        return json.loads(f'"{escaped(value)}"')
    if isinstance(value, dict):
        return {_unescaped(key): _unescaped(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_unescaped(each) for each in value]
    return value
