"""What routes ask of headers, query parameters and claims, in Envoy's form."""

from __future__ import annotations

import re
from typing import Any

from isthmus.envoy_api.packages import matcher_v3, route_v3
from isthmus.filters import jwt_authn
from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import Exact, Present, StringMatch
from isthmus.model.route import ClaimMatch

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?")
"""What is written as JSON writes it, and exact as a double."""


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


def claim_matcher(claim: ClaimMatch, *, invert: bool = False) -> Any:
    """An envoy.type.matcher.v3.MetadataMatcher of the verified payload; without one, it holds only inverted.

    A string equals, or an element of a list; ``exact`` also a number or a boolean that JSON writes so, for which
    Istio's matcher never holds: ``withoutHeaders: {"@request.auth.claims.blocked": {exact: "true"}}`` would let by
    whom it names.
    """
    path = [matcher_v3.MetadataMatcher.PathSegment(key=step) for step in (jwt_authn.PAYLOAD, *claim.path)]
    value = _claim_value(claim.match)
    return matcher_v3.MetadataMatcher(filter=jwt_authn.NAME, path=path, value=value, invert=invert)


def _claim_value(match: StringMatch) -> Any:
    if isinstance(match, Present):
        return matcher_v3.ValueMatcher(present_match=True)
    scalars = [matcher_v3.ValueMatcher(string_match=build_string_matcher(match))]
    if isinstance(match, Exact):
        if match.value in ("true", "false"):
            scalars.append(matcher_v3.ValueMatcher(bool_match=match.value == "true"))
        elif _NUMBER.fullmatch(match.value):
            number = matcher_v3.DoubleMatcher(exact=float(match.value))
            scalars.append(matcher_v3.ValueMatcher(double_match=number))
    elements = [matcher_v3.ValueMatcher(list_match=matcher_v3.ListMatcher(one_of=scalar)) for scalar in scalars]
    return matcher_v3.ValueMatcher(or_match=matcher_v3.OrMatcher(value_matchers=[*elements, *scalars]))
