"""Delegation: a VirtualService with hosts leaves some of its requests to the routes of one without.

Source: istio, pilot/pkg/model/virtualservice.go, mergeHTTPRoutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from isthmus.config.resource import Resource
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.host import NOT_FOUND, hint
from isthmus.kinds.virtual_service.match import Match
from isthmus.kinds.virtual_service.spec import RouteSpec, VirtualServiceSpec, written
from isthmus.model.match import Exact, Prefix, Present, StringMatch
from isthmus.model.route import ClaimMatch, DirectResponse, RouteMatch

OUTSIDE = Code(
    "ISM2155",
    Severity.WARNING,
    "A delegate's route outside of what is delegated",
    "this route is left out where {root} delegates: it takes requests that are not among those delegated",
    what="A match of a delegate is not within any match of the route that delegates to it.",
    why="A delegate must not take requests that were not left to it; regular expressions cannot be compared.",
    example="match: [{uri: {prefix: /orders}}]   # delegates\nmatch: [{uri: {prefix: /users}}]   # of the delegate",
    fix="Match within what the delegating route matches: /orders/new, or nothing, for all of it.",
)
UNUSED = Code(
    "ISM2154",
    Severity.WARNING,
    "A VirtualService that nothing delegates to",
    "without hosts this is a delegate, and no VirtualService delegates to it: it has no effect",
    what="A VirtualService without hosts whose name stands in no delegate field.",
    why="Its routes belong to no host.",
    example="kind: VirtualService\nspec:\n  http: [...]   # no hosts",
    fix="Give it hosts, or name it in the delegate of a VirtualService that has some.",
)

Owned = Resource[VirtualServiceSpec]

_INHERITED = {
    "rewrite": "rewrite",
    "timeout": "timeout",
    "retries": "retries",
    "fault": "fault",
    "mirror": "mirror",
    "mirrors": "mirrors",
    "mirrorPercent": "mirror_percent",
    "mirrorPercentage": "mirror_percentage",
    "corsPolicy": "cors_policy",
    "headers": "headers",
}
"""What a delegate's route has of the one that delegates, where it says nothing itself: field, attribute."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a table: as written, or as merged of two."""

    spec: RouteSpec
    owner: Owned
    """Whose namespace names without a dot belong to."""
    index: int

    @property
    def place(self) -> str:
        return f"http[{self.index}]"


class Delegates:
    """The VirtualServices without hosts, and which of them are used."""

    def __init__(self, resources: Sequence[Owned]) -> None:
        self._known = {f"{each.namespace}/{each.name}": each for each in resources if not each.spec.hosts}
        self._used: set[str] = set()

    def routes(self, root: Owned, report: Report) -> Iterator[Route]:
        """The routes of ``root``, in order, those of delegates in the place of what delegates to them."""
        for index, spec in enumerate(root.spec.http):
            if spec.delegate is None:
                yield Route(spec, root, index)
            else:
                yield from self._delegated(spec, root, index, report)

    def _delegated(self, spec: RouteSpec, root: Owned, index: int, report: Report) -> Iterator[Route]:
        assert spec.delegate is not None
        key = f"{spec.delegate.namespace or root.namespace}/{spec.delegate.name}"
        delegate = self._known.get(key)
        if delegate is None:
            kind = "VirtualService without hosts"
            report.add(NOT_FOUND, spec.delegate.at.at("name"), kind=kind, name=key, hint=hint(key, self._known))
            # Left out, a later route would answer in its place.
            yield Route(replace(spec, delegate=None, direct_response=DirectResponse(503)), root, index)
            return
        self._used.add(key)
        for position, each in enumerate(delegate.spec.http):
            merged = merge(spec, each)
            if merged is None:
                report.add(OUTSIDE, each.at, root=root.ref)
            else:
                yield Route(merged, delegate, position)

    def tell_unused(self, report: Report) -> None:
        for key, resource in self._known.items():
            if key not in self._used:
                report.add(UNUSED, resource.spec.at)


def merge(root: RouteSpec, delegate: RouteSpec) -> RouteSpec | None:
    """The delegate's route, narrowed by the root's match; None if one of its matches is not within the root's."""
    matches = _merge_matches(root.match, delegate.match)
    if matches is None:
        return None
    inherited: dict[str, Any] = {
        attribute: getattr(root, attribute) for name, attribute in _INHERITED.items() if not written(delegate.at, name)
    }
    name = "-".join(part for part in (root.name, delegate.name) if part)
    return replace(delegate, match=matches, name=name, **inherited)


def _merge_matches(root: Sequence[Match], delegate: Sequence[Match]) -> tuple[Match, ...] | None:
    if not root or not delegate:
        return tuple(root or delegate)
    merged = []
    for own in delegate:
        found = [_merge_match(outer, own) for outer in root]
        within = [match for match in found if match is not None]
        if not within:
            return None
        merged += within
    return tuple(merged)


def _merge_match(root: Match, own: Match) -> Match | None:
    outer, inner = root.match, own.match
    singles = ("uri", "method", "authority", "scheme")
    if any(not _within(getattr(outer, name), getattr(inner, name)) for name in singles):
        return None
    if outer.uri and inner.uri and outer.ignore_uri_case != inner.ignore_uri_case:
        return None
    if outer.port and inner.port and outer.port != inner.port:
        return None
    headers = _merge_named(outer.headers, inner.headers)
    query = _merge_named(outer.query, inner.query)
    claims = _merge_named(_by_path(outer.claims), _by_path(inner.claims))
    if headers is None or query is None or claims is None:
        return None
    match = RouteMatch(
        uri=inner.uri or outer.uri,
        ignore_uri_case=(inner if inner.uri else outer).ignore_uri_case,
        method=inner.method or outer.method,
        authority=inner.authority or outer.authority,
        scheme=inner.scheme or outer.scheme,
        headers=headers,
        without_headers=tuple(dict.fromkeys((*outer.without_headers, *inner.without_headers))),
        query=query,
        port=inner.port or outer.port,
        source_labels=outer.source_labels,
        source_namespace=outer.source_namespace,
        claims=tuple(ClaimMatch(path, wanted) for path, wanted in claims),
        without_claims=tuple(dict.fromkeys((*outer.without_claims, *inner.without_claims))),
        stat_prefix=inner.stat_prefix or outer.stat_prefix,
    )
    return Match(own.at, match, root.gateways)


N = TypeVar("N")


def _by_path(claims: Sequence[ClaimMatch]) -> tuple[tuple[tuple[str, ...], StringMatch], ...]:
    return tuple((claim.path, claim.match) for claim in claims)


def _merge_named(
    outer: Sequence[tuple[N, StringMatch]], inner: Sequence[tuple[N, StringMatch]]
) -> tuple[tuple[N, StringMatch], ...] | None:
    known: Mapping[N, StringMatch] = dict(outer)
    if any(not _within(known.get(name), match) for name, match in inner):
        return None
    return tuple({**known, **dict(inner)}.items())


def _within(outer: StringMatch | None, inner: StringMatch | None) -> bool:
    """Whether what ``inner`` takes, ``outer`` takes too. Two regular expressions are not compared."""
    match outer, inner:
        case (None, _) | (_, None) | (Present(), Exact() | Prefix() | Present()):
            return True
        case (Prefix(begin), Exact(value) | Prefix(value)):
            return value.startswith(begin)
        case (Exact(), Exact()):
            return outer == inner
    return False
