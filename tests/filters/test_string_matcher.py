from __future__ import annotations

import re

import pytest

from isthmus.filters.string_matcher import build_string_matcher
from isthmus.model.match import Contains, Exact, PathTemplate, Prefix, Present, Regex, Suffix


def test_plain_matches_keep_their_kind_and_case():
    assert build_string_matcher(Exact("a")).exact == "a"
    assert build_string_matcher(Prefix("a", ignore_case=True)).prefix == "a"
    assert build_string_matcher(Prefix("a", ignore_case=True)).ignore_case
    assert build_string_matcher(Suffix("a")).suffix == "a"
    assert not build_string_matcher(Suffix("a")).ignore_case
    assert build_string_matcher(Contains("a")).contains == "a"
    assert build_string_matcher(Regex("a+")).safe_regex.regex == "a+"


@pytest.mark.parametrize("match", [Prefix(""), Suffix(""), Contains("")])
def test_the_empty_affix_takes_everything(match):
    regex = build_string_matcher(match).safe_regex.regex
    assert re.fullmatch(regex, "")
    assert re.fullmatch(regex, "a\nb")


def test_present_takes_all_but_the_empty_value():
    regex = build_string_matcher(Present()).safe_regex.regex
    assert re.fullmatch(regex, "a\nb")
    assert not re.fullmatch(regex, "")


def test_a_template_is_one_segment_or_the_rest():
    regex = build_string_matcher(PathTemplate("/a.b/{*}/c/{**}")).safe_regex.regex
    assert re.fullmatch(regex, "/a.b/x/c/y/z")
    assert not re.fullmatch(regex, "/aXb/x/c/y")
    assert not re.fullmatch(regex, "/a.b/x/y/c/z")
