"""What a request must look like: ``http[].match[]``, and which matches can never be reached."""

from __future__ import annotations

from dataclasses import dataclass, field

from isthmus.config.decode import (
    Reader,
    Unreadable,
    boolean,
    checked,
    fail,
    list_of,
    map_of,
    noted,
    optional,
    port,
    record,
    text,
)
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.kinds.shape.string_match import named_match, string_match
from isthmus.kinds.virtual_service.claim import claim_path, means_claim
from isthmus.kinds.virtual_service.header import header_name_problem
from isthmus.model.match import Exact, Prefix, StringMatch
from isthmus.model.route import ClaimMatch, RouteMatch

NEVER_MATCHES = Code(
    "ISM2120",
    Severity.WARNING,
    "A path that no request has",
    '"{uri}" does not begin with "/": no request has such a path',
    what="An exact path or a prefix that does not begin with a slash.",
    why="Every path begins with one, so the route is never taken.",
    example="match:\n  - uri: {prefix: api/}",
    fix='Write the path with its leading "/".',
)


@dataclass(frozen=True, slots=True)
class Match:
    """A match whose gateways are still as written."""

    at: Node
    match: RouteMatch
    gateways: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Named:
    """What ``headers`` ask of, or ``withoutHeaders``: real headers, and claims under the names of headers."""

    headers: tuple[tuple[str, StringMatch], ...] = ()
    claims: tuple[ClaimMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class _Written:
    at: Node
    uri: StringMatch | None
    scheme: StringMatch | None
    method: StringMatch | None
    authority: StringMatch | None
    headers: _Named
    without_headers: _Named
    query_params: dict[str, StringMatch]
    port: int | None
    ignore_uri_case: bool
    gateways: tuple[str, ...] | None
    source_labels: dict[str, str]
    source_namespace: str | None
    stat_prefix: str


def _headers(written: dict[str, StringMatch], node: Node, report: Report) -> _Named:
    headers: dict[str, StringMatch] = {}
    claims: list[ClaimMatch] = []
    broken = False
    for name, match in written.items():
        problem = header_name_problem(name)
        if means_claim(name):
            path = claim_path(name)
            if path is not None:
                claims.append(ClaimMatch(path, match))
                continue
            problem = f'"{name}" names no claim: write @request.auth.claims.group or @request.auth.claims[group][id]'
        if problem is not None:
            fail(report, node.at(name), problem)
            broken = True
        headers[name.lower()] = match
    if broken:
        raise Unreadable
    return _Named(tuple(headers.items()), tuple(claims))


def _uri(match: StringMatch, node: Node, report: Report) -> StringMatch:
    if isinstance(match, Exact | Prefix) and not match.value.startswith("/"):
        report.add(NEVER_MATCHES, node, uri=match.value)
    return match


def _match(written: _Written, node: Node, report: Report) -> Match:
    match = RouteMatch(
        uri=written.uri,
        ignore_uri_case=written.ignore_uri_case,
        method=written.method,
        authority=written.authority,
        scheme=written.scheme,
        headers=written.headers.headers,
        without_headers=written.without_headers.headers,
        query=tuple(written.query_params.items()),
        port=written.port,
        source_labels=tuple(sorted(written.source_labels.items())),
        source_namespace=written.source_namespace,
        claims=written.headers.claims,
        without_claims=written.without_headers.claims,
        stat_prefix=written.stat_prefix,
    )
    return Match(node, match, written.gateways or None)


_HEADERS = converted(map_of(named_match), _headers)
MATCH: Reader[Match] = converted(
    record(
        _Written,
        optional("uri", converted(string_match, _uri)),
        optional("scheme", string_match),
        optional("method", string_match),
        optional("authority", string_match),
        optional("headers", _HEADERS, _Named()),
        optional("withoutHeaders", _HEADERS, _Named()),
        optional("queryParams", map_of(named_match), {}),
        optional("port", port),
        optional("ignoreUriCase", boolean, False),
        optional("gateways", list_of(checked(text, lambda name: None if name else "a gateway needs a name"))),
        optional("sourceLabels", map_of(text), {}),
        optional("sourceNamespace", text),
        noted("name", "a name for the match in logs"),
        optional("statPrefix", text, ""),
    ),
    _match,
)


@dataclass(slots=True)
class Earlier:
    """The matches before a given one, by their path, so that what hides a later match is found without trying all."""

    _by_uri: dict[StringMatch | None, list[tuple[RouteMatch, str]]] = field(default_factory=dict)

    def add(self, match: RouteMatch, rule: str) -> None:
        self._by_uri.setdefault(match.uri, []).append((match, rule))

    def covering(self, match: RouteMatch) -> str | None:
        """The name of an earlier rule that takes every request that ``match`` would take."""
        uris: list[StringMatch | None] = [None, match.uri]
        if isinstance(match.uri, Exact | Prefix):
            uris += [Prefix(match.uri.value[:end]) for end in range(1, len(match.uri.value) + 1)]
        for uri in uris:
            for earlier, rule in self._by_uri.get(uri, ()):
                if _takes_all(earlier, match):
                    return rule
        return None


def _takes_all(earlier: RouteMatch, later: RouteMatch) -> bool:
    """Whether ``earlier``, whose path is known to be as wide, asks for nothing that ``later`` does not ask for."""
    if earlier.uri is not None and later.ignore_uri_case and not earlier.ignore_uri_case:
        return False
    single = ("method", "authority", "scheme", "port", "gateways", "source_namespace")
    several = ("headers", "without_headers", "query", "source_labels", "claims", "without_claims")
    return all(getattr(earlier, name) in (None, getattr(later, name)) for name in single) and all(
        set(getattr(earlier, name)) <= set(getattr(later, name)) for name in several
    )
