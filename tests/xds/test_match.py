from __future__ import annotations

import pytest

from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import Contains, Exact, Prefix, Present, Regex, StringMatch, Suffix
from isthmus.xds.match import header_matcher, query_matcher, regex

MATCHES = [Exact("a"), Prefix("a", ignore_case=True), Suffix("a"), Contains("a"), Regex("a+"), Prefix("")]


@pytest.mark.parametrize("match", MATCHES, ids=str)
def test_a_header_is_matched_as_access_control_matches(match: StringMatch) -> None:
    built = header_matcher("x", match)
    assert (built.name, built.string_match) == ("x", build_string_matcher(match))
    assert not built.invert_match
    assert not built.treat_missing_header_as_empty, "an absent header matches nothing"


def test_a_header_that_must_not_match_may_be_absent() -> None:
    built = header_matcher("x", Exact("1"), invert=True)
    assert built.invert_match
    assert built.treat_missing_header_as_empty


@pytest.mark.parametrize("invert", [True, False])
def test_presence_of_a_header(invert: bool) -> None:
    built = header_matcher("x", Present(), invert=invert)
    assert (built.present_match, built.invert_match) == (True, invert)


def test_a_parameter() -> None:
    assert query_matcher("q", Present()).present_match
    assert query_matcher("q", Prefix("a")).string_match.prefix == "a"
    assert regex("a+").regex == "a+"
