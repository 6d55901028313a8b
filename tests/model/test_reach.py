from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.model.facts import matches
from isthmus.model.match import Contains, Exact, PathTemplate, Prefix, Present, Regex, StringMatch, Suffix
from isthmus.model.reach import EVERYWHERE, MOST_COPIES, Reach, by_longest_key, reach_of, worthwhile


@pytest.mark.parametrize(
    ("match", "reach"),
    [
        (Exact("/a"), Reach("/a", whole=True)),
        (Exact("/A", ignore_case=True), Reach("/a", whole=True, fold=True)),
        (Exact(""), Reach("", whole=True)),
        (Prefix("/a/"), Reach("/a/")),
        (Prefix("/A", ignore_case=True), Reach("/a", fold=True)),
        (Prefix("/aé/b"), Reach("/a")),
        (Exact("/aé"), Reach("/a")),
        (PathTemplate("/a/{*}/b"), Reach("/a/")),
        (PathTemplate("/{**}"), Reach("/")),
        (Regex("/api/v1/[^/]+"), Reach("/api/v1/")),
        (Regex("^/api/v1"), Reach("/api/v1")),
        (Regex("(?i)/Api/.*"), Reach("/api/", fold=True)),
        (Regex(r"(?i)api\.example\.com(:[0-9]+)?"), Reach("api.example.com", fold=True)),
        (Regex(r"spiffe://cluster\.local/ns/a\-b/sa/[^,/]+"), Reach("spiffe://cluster.local/ns/a-b/sa/")),
        (Regex("/colou?r"), Reach("/colo")),
        (Regex("/a*"), Reach("/")),
        (Regex("/a{2}"), Reach("/")),
        (Regex(r"/a\.+"), Reach("/a")),
        (Regex("/a|/b"), EVERYWHERE),
        (Regex("(/a)|/b"), EVERYWHERE),
        (Regex("/a/(b|c)/d"), Reach("/a/")),
        (Regex("/a/[b|c]"), EVERYWHERE),  # a bracket could hide a parenthesis: not looked into
        (Regex(r"/a/\(b|c"), EVERYWHERE),
        (Regex(r"/a\d"), Reach("/a")),
        (Regex("(?s)/a"), EVERYWHERE),
        (Regex(r"\Q/a|b\E"), EVERYWHERE),
        (Suffix("/a"), EVERYWHERE),
        (Contains("/a"), EVERYWHERE),
        (Present(), EVERYWHERE),
    ],
)
def test_what_a_match_can_reach(match: StringMatch, reach: Reach) -> None:
    assert reach_of(match) == reach


def test_what_follows_the_end_of_a_path_is_not_in_a_key() -> None:
    assert reach_of(Exact("/a?b"), "?#") == Reach("/a")
    assert reach_of(Prefix("/a#"), "?#") == Reach("/a")
    assert reach_of(Exact("/a"), "?#") == Reach("/a", whole=True)


def test_items_stand_where_their_values_have_their_longest_key() -> None:
    found = by_longest_key([[Reach("/a/b")], [Reach("/a", whole=True)], [Reach("/a")], [EVERYWHERE], []])
    assert found == {"/a/b": (0, 2, 3), "/a": (1, 2, 3), "": (3,)}


def test_behind_an_item_that_is_certain_nothing_is_asked() -> None:
    found = by_longest_key([[Reach("/a/b")], [Reach("/a")], [EVERYWHERE]], certain={1})
    assert found == {"/a/b": (0, 1), "/a": (1,), "": (2,)}


def test_in_whichever_case_is_at_every_key_that_could_be_the_longest() -> None:
    found = by_longest_key([[Reach("/a", fold=True)], [Reach("/ab")], [Reach("/AB")], [Reach("/A", whole=True)]])
    assert found == {"/a": (0,), "/ab": (0, 1), "/AB": (0, 2), "/A": (0, 3), "": (0,)}
    whole = by_longest_key([[Reach("/ab", whole=True, fold=True)], [Reach("/A")], [Reach("/abc")]])
    assert whole == {"/ab": (0,), "/A": (0, 1), "/abc": (2,), "": (0,)}


_TEXTS = st.text("abAB/.?", max_size=4)
_MATCHES = st.one_of(
    st.builds(Exact, _TEXTS, st.booleans()),
    st.builds(Prefix, _TEXTS, st.booleans()),
    st.builds(Suffix, _TEXTS),
    st.sampled_from(
        [Regex("(?i)/Ab.*"), Regex("/a|b.*"), Regex("/a?b.*"), Regex("/(a|B)/.+"), Regex(r"/a\.b.*"), Regex(".*b")]
    ),
    st.sampled_from([PathTemplate("/a/{*}"), PathTemplate("/{**}"), Present()]),
)


@given(st.lists(st.lists(_MATCHES, max_size=3), max_size=12), st.lists(st.text("abAB/.?", max_size=6), max_size=20))
@settings(max_examples=400, deadline=None)
def test_the_longest_keys_items_give_the_lists_answer(items: list[list[StringMatch]], values: list[str]) -> None:
    reaches = [[reach_of(match) for match in item] for item in items]
    certain = {
        index
        for index, item in enumerate(items)
        if len(item) == 1 and isinstance(item[0], Prefix) and not item[0].ignore_case
    }
    found, cut = by_longest_key(reaches), by_longest_key(reaches, certain)
    assert found.keys() == cut.keys() >= {""}
    for value in values:
        expected = [index for index, item in enumerate(items) if any(matches(match, value) for match in item)]
        key = max((key for key in found if value.startswith(key)), key=len)
        asked = [index for index in found[key] if any(matches(match, value) for match in items[index])]
        assert asked == expected
        first = next((index for index in cut[key] if any(matches(match, value) for match in items[index])), None)
        assert first == next(iter(expected), None)


def _keys(count: int) -> list[list[Reach]]:
    return [[Reach(f"/{number:03}/")] for number in range(count)]


def test_a_tree_pays_for_many_items_whose_leaves_are_short() -> None:
    assert worthwhile(_keys(8), smallest=8) is not None
    assert worthwhile(_keys(7), smallest=8) is None
    assert worthwhile([[EVERYWHERE]] * 100, smallest=8) is None, "one leaf, as long as the list"
    two = [[Reach("/a", whole=True)]] * 50 + [[Reach("/b", whole=True)]] * 50
    assert worthwhile(two, smallest=8) is None


def test_a_tree_that_copies_too_much_does_not_pay() -> None:
    for everywhere, pays in ((MOST_COPIES - 2, True), (MOST_COPIES + 1, False), (1000, False)):
        assert (worthwhile([[EVERYWHERE]] * everywhere + _keys(1000), smallest=8) is not None) is pays
        folded = [[Reach("", fold=True)]] * everywhere
        assert (worthwhile(folded + _keys(1000), smallest=8) is not None) is pays


def test_what_is_cut_is_not_counted() -> None:
    assert worthwhile(_keys(1000) + [[EVERYWHERE]] * 10, certain=range(1000), smallest=8) is not None
