"""What routes ask of headers and query parameters, in Envoy's form."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api.packages import matcher_v3, route_v3
from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import Present, StringMatch


def regex(pattern: str) -> Any:
    return matcher_v3.RegexMatcher(regex=pattern)


def header_matcher(name: str, match: StringMatch, *, invert: bool = False) -> Any:
    """An envoy.config.route.v3.HeaderMatcher; an absent header matches only inverted."""
    if isinstance(match, Present):
        return route_v3.HeaderMatcher(name=name, present_match=True, invert_match=invert)
    # Without the last, Envoy would not even invert: an absent header would fail both.
    return route_v3.HeaderMatcher(
        name=name, string_match=build_string_matcher(match), invert_match=invert, treat_missing_header_as_empty=invert
    )


def query_matcher(name: str, match: StringMatch) -> Any:
    if isinstance(match, Present):
        return route_v3.QueryParameterMatcher(name=name, present_match=True)
    return route_v3.QueryParameterMatcher(name=name, string_match=build_string_matcher(match))
