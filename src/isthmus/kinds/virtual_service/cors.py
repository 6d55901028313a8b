"""``http[].corsPolicy``: which other origins' pages may send requests and read the answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.config.decode import Reader, boolean, checked, enum_of, list_of, one_of, optional, record, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.filters.cors import Cors
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.string_match import string_match
from isthmus.kinds.virtual_service.header import header_name_problem
from isthmus.model.match import Exact, Prefix, Regex, StringMatch

ORIGINS = Code(
    "ISM2152",
    Severity.WARNING,
    "Origins that are not what they look like",
    "{reason}",
    what="A corsPolicy that allows more origins than its author can have meant, or none.",
    why="A page of an allowed origin reads answers with the user's own cookies; a prefix has no end.",
    example='corsPolicy:\n  allowOrigins: [{regex: ".*"}]\n  allowCredentials: true',
    fix='Name the origins: exact: https://shop.example.com, or a regex such as "https://[a-z]+[.]example[.]com".',
)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_ANYBODY = "https://attacker.invalid"
_ANY = re.compile(r"\^?(https?\??(://)?)?\.[*+]\$?")
"""Regular expressions that ask for a scheme at most."""


class _Unmatched(Enum):
    UNSPECIFIED = "UNSPECIFIED"
    FORWARD = "FORWARD"
    IGNORE = "IGNORE"


@dataclass(frozen=True, slots=True)
class _CorsPolicy:
    at: Node
    allow_origins: tuple[StringMatch, ...]
    allow_origin: tuple[str, ...]
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    max_age: timedelta | None
    allow_credentials: bool
    unmatched_preflights: _Unmatched


def _method_problem(method: str) -> str | None:
    return None if method in _METHODS else f'"{method}" is not one of {", ".join(_METHODS)}'


def _seconds_problem(value: timedelta) -> str | None:
    return "maxAge is exact to the second only" if value.microseconds else None


def _cors(written: _CorsPolicy, node: Node, report: Report) -> Cors:
    origins = written.allow_origins or tuple(Exact(origin) for origin in written.allow_origin)
    _tell_of_origins(origins, written.allow_credentials, node, report)
    return Cors(
        allow_origins=origins,
        allow_methods=written.allow_methods,
        allow_headers=written.allow_headers,
        expose_headers=written.expose_headers,
        max_age=written.max_age,
        allow_credentials=written.allow_credentials,
        forward_unmatched_preflights=written.unmatched_preflights is not _Unmatched.IGNORE,
    )


def _tell_of_origins(origins: tuple[StringMatch, ...], credentials: bool, node: Node, report: Report) -> None:
    if not origins:
        report.add(ORIGINS, node, reason="without allowOrigins no other origin is allowed anything")
    for index, origin in enumerate(origins):
        at = node.at("allowOrigins" if node.get("allowOrigins") else "allowOrigin", index)
        if _takes_anybody(origin):
            if credentials:
                reason = "with allowCredentials, pages of every origin read answers with the user's own cookies"
                report.add(ORIGINS, at, reason=reason)
        elif isinstance(origin, Prefix) and ":" not in origin.value.partition("://")[2]:
            reason = f'the prefix "{origin.value}" takes "{origin.value}.attacker.invalid", too'
            report.add(ORIGINS, at, reason=reason)


def _takes_anybody(origin: StringMatch) -> bool:
    match origin:
        case Exact(value):
            return value == "*"
        case Prefix(value):
            return _ANYBODY.startswith(value)
        case Regex(value):
            return _ANY.fullmatch(value) is not None
    return False


_NAMES = list_of(checked(text, header_name_problem))
CORS_POLICY: Reader[Cors] = converted(
    checked(
        record(
            _CorsPolicy,
            optional("allowOrigins", list_of(string_match), ()),
            optional("allowOrigin", list_of(text), (), note="deprecated by Istio: allowOrigins"),
            optional("allowMethods", list_of(checked(text, _method_problem)), ()),
            optional("allowHeaders", _NAMES, ()),
            optional("exposeHeaders", _NAMES, ()),
            optional("maxAge", checked(positive_duration, _seconds_problem)),
            optional("allowCredentials", boolean, False),
            optional("unmatchedPreflights", enum_of(_Unmatched), _Unmatched.UNSPECIFIED),
        ),
        one_of("allowOrigins", "allowOrigin"),
    ),
    _cors,
)
