from __future__ import annotations

import pytest

from isthmus.config.decode import Unreadable
from isthmus.config.parse import parse
from isthmus.diag import Report
from isthmus.kinds.shape.string_match import named_match, regex, string_match
from isthmus.model.match import Exact, Prefix, Present, Regex, StringMatch


def read(text: str, *, named: bool) -> tuple[StringMatch | None, list[str]]:
    report = Report()
    node = parse(text, "test", 1, report)
    assert node is not None
    try:
        match = (named_match if named else string_match).read(node, report)
    except Unreadable:
        match = None
    return match, [found.code.id for found in report]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("text", "match"), [("exact: ''", Exact("")), ("prefix: a", Prefix("a")), ("regex: a+", Regex("a+"))]
)
def test_one_of_three(text: str, match: StringMatch, named: bool) -> None:
    assert read(text, named=named) == (match, [])


@pytest.mark.parametrize("text", ["{}", 'regex: "*"', "exact: null"])
def test_presence_is_for_what_may_be_absent(text: str) -> None:
    assert read(text, named=True) == (Present(), [])
    assert read(text, named=False) == (None, ["ISM1106"])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("text", "code"),
    [("{exact: a, regex: b}", "ISM1106"), ("prefix: ''", "ISM1106"), ("regex: '['", "IST0122"), ("a", "ISM1102")],
)
def test_what_cannot_be_read(text: str, code: str, named: bool) -> None:
    assert read(text, named=named) == (None, [code])


def test_a_plain_regular_expression_is_no_star() -> None:
    report = Report()
    node = parse('"*"', "test", 1, report)
    assert node is not None
    with pytest.raises(Unreadable):
        regex.read(node, report)
    assert [found.code.id for found in report] == ["IST0122"]
