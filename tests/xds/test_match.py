from __future__ import annotations

import pytest

from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import Contains, Exact, Prefix, Present, Regex, StringMatch, Suffix
from isthmus.model.route import ClaimMatch
from isthmus.xds.match import claim_matcher, header_matcher, query_matcher, regex

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


def alternatives(match: StringMatch) -> tuple[list[str], list[str]]:
    """What an element of a list may be, and what the claim itself."""
    values = claim_matcher(ClaimMatch(("a",), match)).value.or_match.value_matchers
    elements = [one.list_match.one_of for one in values if one.HasField("list_match")]
    single = [one for one in values if not one.HasField("list_match")]
    return [one.WhichOneof("match_pattern") for one in elements], [one.WhichOneof("match_pattern") for one in single]


def test_a_claim_is_of_the_verified_payload() -> None:
    built = claim_matcher(ClaimMatch(("realm", "name"), Exact("eu")))
    assert built.filter == "envoy.filters.http.jwt_authn"
    assert [step.key for step in built.path] == ["payload", "realm", "name"]
    assert not built.invert
    assert claim_matcher(ClaimMatch(("a",), Exact("eu")), invert=True).invert
    assert claim_matcher(ClaimMatch(("a",), Present())).value.present_match


@pytest.mark.parametrize(
    ("match", "kinds"),
    [
        (Exact("eu"), ["string_match"]),
        (Prefix("1"), ["string_match"]),
        (Regex("true"), ["string_match"]),
        (Exact("true"), ["string_match", "bool_match"]),
        (Exact("false"), ["string_match", "bool_match"]),
        (Exact("42"), ["string_match", "double_match"]),
        (Exact("-1.5"), ["string_match", "double_match"]),
        (Exact("007"), ["string_match"]),
        (Exact("1e3"), ["string_match"]),
        # As doubles, this and its neighbour are one.
        (Exact("9007199254740993"), ["string_match"]),
    ],
)
def test_a_claim_is_compared_as_json_writes_it(match: StringMatch, kinds: list[str]) -> None:
    assert alternatives(match) == (kinds, kinds)
