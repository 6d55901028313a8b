"""What becomes of a request: destinations, retries, rewrite, redirect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.config.decode import (
    Reader,
    checked,
    enum_of,
    fail,
    integer,
    later,
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
from isthmus.kinds.shape.duration import positive_duration
from isthmus.kinds.shape.host import hint, host_name
from isthmus.kinds.shape.string_match import regex
from isthmus.kinds.shape.support import refused
from isthmus.kinds.virtual_service.header import HEADERS
from isthmus.model.route import Headers, Redirect, Retry, Rewrite


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


ROUTE_DESTINATION = record(
    WeightedSpec,
    required(
        "destination",
        record(
            DestinationSpec,
            required("host", host_name),
            optional("subset", text),
            optional("port", record(PortSpec, required("number", port))),
        ),
    ),
    optional("weight", checked(integer, lambda value: "a weight is not negative" if value < 0 else None), 0),
    optional("headers", HEADERS, Headers()),
)

_CONDITIONS = frozenset(
    (
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    )
)
"""Envoy's retry conditions: x-envoy-retry-on and x-envoy-retry-grpc-on."""


@dataclass(frozen=True, slots=True)
class _RetrySpec:
    at: Node
    attempts: int
    per_try_timeout: timedelta | None
    retry_on: tuple[tuple[str, ...], tuple[int, ...]] | None


def _retry_on(written: str, node: Node, report: Report) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The conditions and the status codes of a list with commas."""
    conditions, codes = [], []
    for part in (part.strip() for part in written.split(",")):
        if part.isdecimal() and 100 <= int(part) <= 599:
            codes.append(int(part))
        elif part in _CONDITIONS:
            conditions.append(part)
        else:
            raise fail(report, node, f'"{part}" is not a condition for a retry{hint(part, _CONDITIONS)}')
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    return tuple(conditions), tuple(codes)


def _retry(written: _RetrySpec, node: Node, report: Report) -> Retry:
    if written.attempts == 0 and (written.per_try_timeout is not None or written.retry_on is not None):
        raise fail(report, node, "attempts is 0 or not given, so nothing is retried: the other fields have no effect")
    default = Retry()
    conditions, codes = written.retry_on or (default.retry_on, default.status_codes)
    return Retry(written.attempts, conditions, codes, written.per_try_timeout)


RETRY: Reader[Retry] = converted(
    record(
        _RetrySpec,
        optional("attempts", checked(integer, lambda value: "attempts are not negative" if value < 0 else None), 0),
        optional("perTryTimeout", positive_duration),
        optional("retryOn", converted(text, _retry_on)),
        later("backoff"),
        later("retryRemoteLocalities"),
        later("retryIgnorePreviousHosts"),
    ),
    _retry,
)


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


REWRITE: Reader[Rewrite] = converted(
    checked(
        record(
            _RewriteSpec,
            optional("uri", text),
            optional("authority", text),
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


class _DerivePort(Enum):
    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


@dataclass(frozen=True, slots=True)
class _RedirectSpec:
    at: Node
    uri: str | None
    authority: str | None
    port: int | None
    derive_port: _DerivePort | None
    scheme: str | None
    redirect_code: int


def _redirect(written: _RedirectSpec, node: Node, report: Report) -> Redirect:
    wanted = (written.uri, written.authority, written.port, written.derive_port, written.scheme)
    if all(value is None for value in wanted):
        raise fail(report, node, "a redirect needs uri, authority, port, derivePort or scheme")
    return Redirect(
        status=written.redirect_code,
        uri=written.uri,
        authority=written.authority,
        scheme=written.scheme,
        port=written.port,
        port_from_request=written.derive_port is _DerivePort.FROM_REQUEST_PORT,
        port_of_scheme=written.derive_port is _DerivePort.FROM_PROTOCOL_DEFAULT,
    )


def _scheme_problem(scheme: str) -> str | None:
    return None if scheme in ("http", "https") else f'"{scheme}" is neither http nor https'


def _code_problem(code: int) -> str | None:
    return None if code in (301, 302, 303, 307, 308) else f"{code} is not one of 301, 302, 303, 307, 308"


REDIRECT: Reader[Redirect] = converted(
    checked(
        record(
            _RedirectSpec,
            optional("uri", text),
            optional("authority", text),
            optional("port", port),
            optional("derivePort", enum_of(_DerivePort)),
            optional("scheme", checked(text, _scheme_problem)),
            optional("redirectCode", checked(integer, _code_problem), 301),
            refused("prefixRewrite", "the redirect leads to the same path"),
        ),
        one_of("port", "derivePort"),
    ),
    _redirect,
)
