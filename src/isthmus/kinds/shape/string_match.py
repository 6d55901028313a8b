"""Istio's StringMatch: exactly one of ``exact``, ``prefix`` and ``regex``."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.config.decode import Reader, Unreadable, checked, fail, one_of, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.regex import INVALID_REGEX, regex_problem
from isthmus.model.match import Exact, Prefix, Present, Regex, StringMatch


@dataclass(frozen=True, slots=True)
class _Written:
    at: Node
    exact: str | None
    prefix: str | None
    regex: str | None


def _regex(pattern: str, node: Node, report: Report) -> str:
    problem = regex_problem(pattern)
    if problem is not None:
        report.add(INVALID_REGEX, node, regex=pattern, problem=problem)
        raise Unreadable
    return pattern


def _regex_or_star(pattern: str, node: Node, report: Report) -> str:
    return pattern if pattern == "*" else _regex(pattern, node, report)


regex = Reader("a regular expression (RE2)", converted(text, _regex).read)
_regex_of_match = Reader(regex.name, converted(text, _regex_or_star).read)

_written = checked(
    record(_Written, optional("exact", text), optional("prefix", text), optional("regex", _regex_of_match)),
    one_of("exact", "prefix", "regex"),
)


def _value_match(written: _Written, node: Node, report: Report) -> StringMatch:
    if written.exact is not None:
        return Exact(written.exact)
    if written.prefix is not None:
        if not written.prefix:
            raise fail(report, node, "an empty prefix matches everything: leave the match out")
        return Prefix(written.prefix)
    if written.regex is None:
        raise fail(report, node, "one of exact, prefix, regex is needed")
    if written.regex == "*":
        raise fail(report, node, '"*" is not a regular expression; ".*" matches everything')
    return Regex(written.regex)


def _named_match(written: _Written, node: Node, report: Report) -> StringMatch:
    if written.regex == "*" or (written.exact, written.prefix, written.regex) == (None, None, None):
        return Present()
    return _value_match(written, node, report)


string_match: Reader[StringMatch] = converted(_written, _value_match)
"""Of a value that every request has (path, method, authority)."""
named_match: Reader[StringMatch] = converted(_written, _named_match)
"""Of a header or a query parameter: ``{}`` and ``regex: "*"`` ask only that it is there."""
