"""Header operations (``headers.request`` and ``headers.response``) and names of headers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.config.decode import Reader, Unreadable, fail, list_of, map_of, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.model.route import HeaderOperations, Headers

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def header_name_problem(name: str) -> str | None:
    """What is wrong with the name of a header (RFC 9110, 5.1)."""
    return None if _TOKEN.fullmatch(name) else f'"{name}" is not the name of a header'


@dataclass(frozen=True, slots=True)
class _Operations:
    at: Node
    set: dict[str, str]
    add: dict[str, str]
    remove: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Headers:
    at: Node
    request: HeaderOperations
    response: HeaderOperations


def _value(value: str, node: Node, report: Report) -> str:
    if any(ord(char) < 0x20 and char != "\t" for char in value) or "\x7f" in value:
        raise fail(report, node, "the value of a header has no control characters")
    return value


def _operations(written: _Operations, node: Node, report: Report) -> HeaderOperations:
    broken = False
    named = [(name, node.at("set", name)) for name in written.set]
    named += [(name, node.at("add", name)) for name in written.add]
    named += [(name, node.at("remove", index)) for index, name in enumerate(written.remove)]
    for name, at in named:
        # Istio rewrites the authority by either name, and drops every other pseudo header.
        problem = None if name == ":authority" and name in written.set else header_name_problem(name)
        if problem is not None:
            fail(report, at, problem)
            broken = True
    if broken:
        raise Unreadable
    renamed = {"Host" if name.lower() in (":authority", "host") else name: value for name, value in written.set.items()}
    return HeaderOperations(tuple(renamed.items()), tuple(written.add.items()), written.remove)


_MAP = map_of(converted(text, _value))
_OPERATIONS: Reader[HeaderOperations] = converted(
    record(_Operations, optional("set", _MAP, {}), optional("add", _MAP, {}), optional("remove", list_of(text), ())),
    _operations,
)
HEADERS: Reader[Headers] = converted(
    record(
        _Headers,
        optional("request", _OPERATIONS, HeaderOperations()),
        optional("response", _OPERATIONS, HeaderOperations()),
    ),
    lambda written, node, report: Headers(written.request, written.response),
)
