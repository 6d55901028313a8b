"""Rego's text, as far as the engine misreads it: string literals, brought to the one form that it compares right.

rego-cpp compares strings as they are escaped in the text, so that ``"\\u0061"`` is not ``"a"`` to it. Everything that
enters the engine (literals, data, input) is therefore escaped in one way: JSON's, and only what must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

_SURROGATE = re.compile("[\ud800-\udfff]")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_BARE_WITH = re.compile(r"(?m)^[^\n{}]*?\bif[ \t]+(?P<body>(?!\{)[^\n]*\bwith\b[^\n]*(?:\n[ \t]+with\b[^\n]*)*)$")
_INPUT = "data.isthmus_input"
_NAMED_INPUT = re.compile(r"(?<![.\w])(?P<value>input)\b")
_MOCK = re.compile(
    r"\bwith[ \t]+\w[\w.\[\]]*[ \t]+as[ \t]+(?P<value>(?!(?:true|false|null)\b)[A-Za-z_][\w.]*)(?![\w.(\[])"
)
_TOKEN = re.compile(r'#[^\n]*|`[^`]*`|\$?"(?:[^"\\\n]|\\.)*"')


def escaped(text: str) -> str:
    """A string as it stands between quotes. Half of a surrogate pair becomes U+FFFD, as it does in Go."""
    whole = text if text.isascii() else _SURROGATE.sub("\ufffd", text)
    return _encode(whole)[1:-1]


def canonical(module: str) -> str:
    """A module as the engine reads it right; every line stays where it is.

    String literals are escaped as :func:`escaped` does, and a body of one expression with ``with`` gets its braces: the
    engine's parser takes ``if not allow with input as x`` for an error.
    """
    return _TOKEN.sub(lambda match: _literal(match.group()), _braced(module))


def _braced(module: str) -> str:
    plain = _TOKEN.sub(lambda match: _masked(match.group()), module)
    parts, done = [], 0
    for match in _BARE_WITH.finditer(plain):
        body = match.group("body").rstrip()
        if "else" in body or any(body.count(one) != body.count(other) for one, other in ("()", "[]", "{}")):
            continue
        begin, end = match.start("body"), match.start("body") + len(body)
        parts += [module[done:begin], "{ ", module[begin:end], " }"]
        done = end
    return "".join((*parts, module[done:]))


def _masked(token: str) -> str:
    """As long as the token, and nothing in it."""
    return (" " if token.startswith("#") else '"') * len(token)


def _literal(token: str) -> str:
    """Comments, raw strings and templates stay; so does what is no string, for the engine to refuse."""
    if not token.startswith('"') or "\\" not in token:
        return token
    try:
        return f'"{escaped(json.loads(token))}"'
    except ValueError:
        return token


def mockable(module: str) -> str:
    """A module for tests, where ``with`` replaces the whole input; every line stays where it is.

    The engine does not survive ``with input as`` over a rule that calls a builtin, nor takes a rule's value behind
    ``as``: the input is given another name, and such a value is wrapped.
    """
    wrapped = _replaced(_MOCK, module, lambda match: f"[isthmus_x | isthmus_x := {match.group('value')}][0]")
    return _replaced(_NAMED_INPUT, wrapped, lambda match: _INPUT)


def _replaced(pattern: re.Pattern[str], module: str, by: Callable[[re.Match[str]], str]) -> str:
    """Where ``pattern`` is found outside of strings and comments: its group ``value`` replaced."""
    parts, done = [], 0
    for match in pattern.finditer(_TOKEN.sub(lambda token: _masked(token.group()), module)):
        parts += [module[done : match.start("value")], by(match)]
        done = match.end("value")
    return "".join((*parts, module[done:]))


def nesting(module: str) -> int:
    """How deep its brackets go. Those of strings and comments do not count."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\](){}]", _TOKEN.sub("", module)):
        depth += 1 if bracket in "[({" else -1
        deepest = max(deepest, depth)
    return deepest


def package_of(module: str) -> str | None:
    """The module's package, as it is written."""
    bare = re.sub(r"#[^\n]*", "", module)
    found = re.search(r"(?m)^\s*package\s+([^\s#]+)", bare)
    return found.group(1) if found is not None else None
