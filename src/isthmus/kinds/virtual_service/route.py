"""Where a request goes and what is rewritten on its way: destinations, mirrors, rewrite."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isthmus.config.decode import (
    Reader,
    checked,
    fail,
    integer,
    one_of,
    optional,
    port,
    record,
    required,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Report
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.host import host_name
from isthmus.kinds.shape.string_match import regex
from isthmus.kinds.virtual_service.header import HEADERS
from isthmus.kinds.virtual_service.percent import PERCENTAGE, Percent
from isthmus.model.route import Headers, Rewrite


@dataclass(frozen=True, slots=True)
class PortSpec:
    at: Node
    number: int


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    at: Node
    host: str
    subset: str | None
    port: PortSpec | None


@dataclass(frozen=True, slots=True)
class WeightedSpec:
    at: Node
    destination: DestinationSpec
    weight: int
    headers: Headers


def weights_problem(route: tuple[WeightedSpec, ...]) -> str | None:
    """One destination takes all; of several, those without a weight have 0, as in Istio."""
    if len(route) > 1 and not any(each.weight for each in route):
        return "the weights of several destinations add up to 0"
    return None


DESTINATION = record(
    DestinationSpec,
    required("host", host_name),
    optional("subset", text),
    optional("port", record(PortSpec, required("number", port))),
)
ROUTE_DESTINATION = record(
    WeightedSpec,
    required("destination", DESTINATION),
    optional("weight", checked(integer, lambda value: "a weight is not negative" if value < 0 else None), 0),
    optional("headers", HEADERS, Headers()),
)


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    at: Node
    destination: DestinationSpec
    percentage: Percent | None


MIRROR = record(MirrorSpec, required("destination", DESTINATION), optional("percentage", PERCENTAGE))


@dataclass(frozen=True, slots=True)
class _RegexRewrite:
    at: Node
    match: str
    rewrite: str


@dataclass(frozen=True, slots=True)
class _RewriteSpec:
    at: Node
    uri: str | None
    authority: str | None
    uri_regex_rewrite: _RegexRewrite | None


def _regex_rewrite_problem(written: _RegexRewrite) -> str | None:
    groups = re.findall(r"\\(.?)", written.rewrite)
    if any(not group.isdecimal() and group != "\\" for group in groups):
        return "in rewrite, a backslash stands before the number of a group or another backslash"
    return None


def _rewrite(written: _RewriteSpec, node: Node, report: Report) -> Rewrite:
    if written.uri is None and written.authority is None and written.uri_regex_rewrite is None:
        raise fail(report, node, "a rewrite needs uri, authority or uriRegexRewrite")
    by_regex = written.uri_regex_rewrite
    return Rewrite(written.uri, written.authority, (by_regex.match, by_regex.rewrite) if by_regex else None)


def _empty_problem(written: str) -> str | None:
    return None if written else "an empty value rewrites nothing: leave the field out"


_TEXT = checked(text, _empty_problem)
REWRITE: Reader[Rewrite] = converted(
    checked(
        record(
            _RewriteSpec,
            optional("uri", _TEXT),
            optional("authority", _TEXT),
            optional(
                "uriRegexRewrite",
                checked(
                    record(_RegexRewrite, required("match", regex), required("rewrite", text)), _regex_rewrite_problem
                ),
            ),
        ),
        one_of("uri", "uriRegexRewrite"),
    ),
    _rewrite,
)
